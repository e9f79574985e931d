"""The names of `fastcnn.report` for editors and type checkers."""

from .write import write_report as write_report

__all__: list[str]
