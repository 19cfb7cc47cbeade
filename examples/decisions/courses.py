"""Course subscriptions: a course has a capacity, and a student takes at most ten courses.

After <https://dcb.events/examples/course-subscriptions/>: two rules of two things, held by one append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from twofold import Application, Command, DecisionModel, Event, EventQuery, Tag, combine

MOST_COURSES = 10
"""Courses that one student may take."""


class CourseError(Exception):
    """A rule of the courses forbids it."""


@dataclass(frozen=True, kw_only=True)
class CourseDefined(Event):
    """A course may be taken by as many students as it has seats."""

    course: Annotated[str, Tag("course")]
    capacity: int


@dataclass(frozen=True, kw_only=True)
class CapacityChanged(Event):
    """A course has another number of seats from now on; students who have one keep it."""

    course: Annotated[str, Tag("course")]
    capacity: int


@dataclass(frozen=True, kw_only=True)
class StudentSubscribed(Event):
    """A student takes a course."""

    student: Annotated[str, Tag("student")]
    course: Annotated[str, Tag("course")]


@dataclass(frozen=True, kw_only=True)
class DefineCourse(Command[None]):
    """Offer a course."""

    course: str
    capacity: int


@dataclass(frozen=True, kw_only=True)
class ChangeCapacity(Command[None]):
    """Give a course more seats, or fewer."""

    course: str
    capacity: int


@dataclass(frozen=True, kw_only=True)
class Subscribe(Command[None]):
    """Let a student take a course."""

    student: str
    course: str


def capacity_of(course: str) -> DecisionModel[int | None]:
    """Return the model of a course's number of seats; None if there is no such course."""
    query = EventQuery.of(CourseDefined, CapacityChanged, tags=[f"course:{course}"])
    return DecisionModel(query=query, initial_state=None, evolve=lambda _, event: event.capacity)


def subscriptions(*tags: str) -> DecisionModel[int]:
    """Return the model of how many subscriptions carry all of these tags."""
    query = EventQuery.of(StudentSubscribed, tags=tags)
    return DecisionModel(query=query, initial_state=0, evolve=lambda number, _: number + 1)


def wire(app: Application) -> None:
    """Register the events and the handlers."""
    app.store.events.register(CourseDefined, CapacityChanged, StudentSubscribed)

    async def define(command: DefineCourse) -> None:
        if (await app.store.decide(capacity_of(command.course))).state is not None:
            raise CourseError(f"there is a course {command.course!r}")
        await app.store.append([CourseDefined(course=command.course, capacity=command.capacity)])

    async def change_capacity(command: ChangeCapacity) -> None:
        if (await app.store.decide(capacity_of(command.course))).state is None:
            raise CourseError(f"there is no course {command.course!r}")
        await app.store.append([CapacityChanged(course=command.course, capacity=command.capacity)])

    async def subscribe(command: Subscribe) -> None:
        course, student = f"course:{command.course}", f"student:{command.student}"
        known = combine(
            capacity_of(command.course), subscriptions(course), subscriptions(student), subscriptions(course, student)
        )
        capacity, of_course, of_student, of_both = (await app.store.decide(known)).state
        if capacity is None:
            raise CourseError(f"there is no course {command.course!r}")
        if of_both:
            raise CourseError(f"{command.student!r} takes {command.course!r} already")
        if of_course >= capacity:
            raise CourseError(f"{command.course!r} is full")
        if of_student >= MOST_COURSES:
            raise CourseError(f"{command.student!r} takes {MOST_COURSES} courses already")
        await app.store.append([StudentSubscribed(student=command.student, course=command.course)])

    app.commands.register(DefineCourse, define)
    app.commands.register(ChangeCapacity, change_capacity)
    app.commands.register(Subscribe, subscribe)
