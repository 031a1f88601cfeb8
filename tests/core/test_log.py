"""Messages on the command line: each once, whatever other libraries do with the root logger."""

from __future__ import annotations

import logging

import pytest

from reid_edge.core.log import show_messages


def test_a_message_is_shown_once_where_a_library_configured_the_root_logger(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_messages()
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.basicConfig()
    logging.getLogger("reid_edge.export.files").info("wrote a file")
    logging.getLogger("reid_edge.export.files").warning("it is large")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("wrote a file\n", "note: it is large\n")
