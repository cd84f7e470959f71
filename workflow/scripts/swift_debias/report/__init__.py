"""What people read: tables, figures, verdict, report.html."""

from ..data import adapters
from ..evaluation.words import add_titles

add_titles({name: adapters.load(name).TITLE for name in adapters.available()})
