"""A projection that reads another one does so on DuckDB, too: with the fixture `engine` of this folder."""

from tests.projections.test_reads import (  # noqa: F401
    synchronizer,
    test_a_failure_stops_the_projection_right_before_the_event_and_what_it_reads_with_it,
    test_an_event_that_is_skipped_is_left_out_whole_also_by_a_rebuild,
    test_what_a_generation_keeps_of_others_goes_with_it,
)
