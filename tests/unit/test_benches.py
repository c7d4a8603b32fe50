"""The benches start, and say what they measure."""

import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
COMMANDS = sorted(path for path in BENCH.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8"))


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", COMMANDS, ids=[path.stem for path in COMMANDS])
def test_a_bench_tells_what_it_measures(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` of each: it can be imported, and its options fit together."""
    # Python puts a script's own folder there; and what a bench puts there itself is taken back.
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    main = loaded(path).main
    with pytest.raises(SystemExit) as ended:
        asyncio.run(main()) if inspect.iscoroutinefunction(main) else main()
    assert ended.value.code == 0
    assert "options:" in (said := capsys.readouterr().out)
    assert len(said.split("options:")[0].split()) > 40, "what it measures, against what, and how to run it"


def test_there_are_benches() -> None:
    """The test above looks in the right place."""
    assert {"turns", "in_flight", "streaming", "accept", "stages"} <= {path.stem for path in COMMANDS}
