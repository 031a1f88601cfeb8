"""``python -m reid_edge`` is ``reid-edge``."""

from reid_edge.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
