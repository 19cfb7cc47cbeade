"""The Orders server as a process: how it starts, fails and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.acceptance.servers import PATIENCE, serving, start
from tests.acceptance.test_http import assert_problem, body


async def ended(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    process = await start(*arguments, **environment)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def test_the_server_says_where_it_is_and_what_to_try(tmp_path: Path) -> None:
    async with serving(tmp_path / "new" / "orders.db") as (server, url):
        server.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(server.communicate(), PATIENCE)
    text = out.decode()
    assert f"{url}/docs" in text
    assert text.count("  curl ") == 3
    assert err == b""


async def test_a_body_without_declared_length_is_limited_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield b"x" * 1024

    async with serving(tmp_path / "orders.db") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        answer = await client.post("/orders", content=endless(), headers={"Content-Type": "application/json"})
        assert_problem(answer, 413)
        assert (await client.post("/orders", json=body())).status_code == 201


async def test_a_simulated_shop_shows_orders_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "orders.db", SIMULATE="1") as (_, url), httpx2.AsyncClient(base_url=url) as client:
        async with asyncio.timeout(PATIENCE):
            while (await client.get("/orders/search")).json()["total"] < 300:
                pass
        assert (await client.get("/orders/search", params={"q": "teapot london"})).json()["total"] > 0


async def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = await ended("serve", PORT=port, DATABASE_URL=f"sqlite:///{tmp_path}/orders.db")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "in use" in err
    assert "PORT" in err


@pytest.mark.parametrize("url", ["sqlite:////proc/none/orders.db", "sqlite:///{folder}/garbage.db"])
async def test_a_database_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, url: str) -> None:
    (tmp_path / "garbage.db").write_bytes(b"no database at all " * 100)
    code, out, err = await ended("serve", PORT="0", DATABASE_URL=url.format(folder=tmp_path))
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("wrong", [{"DATABASE_URL": "mysql://x"}, {"PORT": "99999"}, {"PORT": "http"}])
async def test_a_wrong_setting_is_told_without_a_traceback(tmp_path: Path, wrong: dict[str, str]) -> None:
    code, out, err = await ended("serve", **{"DATABASE_URL": f"sqlite:///{tmp_path}/orders.db"} | wrong)
    assert code
    assert next(iter(wrong)) in out + err
    assert "Traceback" not in out + err


async def test_help_teaches(tmp_path: Path) -> None:
    code, out, _ = await ended("serve", "--help")
    assert code == 0
    assert all(word in out for word in ("HOST", "PORT", "DATABASE_URL", "SIMULATE", "curl"))


async def test_an_import_tells_its_figures_and_a_second_one_that_nothing_changed(tmp_path: Path) -> None:
    file, report = tmp_path / "retail.csv", tmp_path / "report.csv"
    file.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "1,tea,TEA,2,2011-12-01 08:26:00,5.0,17850.0,EIRE\n"
        "1,cup,CUP,0,2011-12-01 08:26:00,5.0,17850.0,EIRE\n"
    )
    arguments = ("import", str(file), "--report", str(report))
    url = f"sqlite:///{tmp_path}/orders.db"
    code, out, err = await ended(*arguments, DATABASE_URL=url)
    assert (code, err) == (0, "")
    assert "1 imported, 1 rejected" in out
    assert all(figure in out for figure in ("2011-12", "EIRE", "10.00", "quantity not positive: 1"))
    assert "quantity not positive" in report.read_text()
    assert "Nothing changed" not in out
    code, out, _ = await ended(*arguments, DATABASE_URL=url)
    assert (code, "Nothing changed" in out) == (0, True)


async def test_a_file_that_is_something_else_is_told_in_one_line(tmp_path: Path) -> None:
    code, out, err = await ended("import", str(tmp_path / "none.csv"), DATABASE_URL=f"sqlite:///{tmp_path}/orders.db")
    assert (code, out, err.count("\n")) == (1, "", 1)
