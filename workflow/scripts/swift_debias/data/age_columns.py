"""Which columns hold ages, and of which unit, by their names. Nothing heavy is imported."""

from __future__ import annotations

import re

# A column of ages: age, Age (months), ageinyears, PatientAge, AgeAtScan; not stage, dosage or
# year_of_birth, nor what is made of ages and may be below 0: brain_age_gap, age z-score.
_MADE_OF = "gap|diff|delta|offset|error|residual|accel|ratio|squared|z[ _-]?score|percentile"
NAMED = re.compile(
    rf"^(?!.*(?i:{_MADE_OF})).*?(?:"
    r"(?i:(?<![a-z])age(?![a-z])|(?<![a-z])age(?:in)?(?:year|month|week|day)s?(?![a-z])|^years$)"
    r"|(?<=[a-z])Age(?![a-z])|(?<![A-Za-z])[Aa]ge(?=[A-Z]))"
)
# As the last word of such a column or all of it, or behind `age` or `age in`; there a letter too.
_UNITS = {
    unit: re.compile(
        rf"(?:age|in|[^a-z]|^)[^a-z]*(?:{words})[^a-z0-9]*$"
        rf"|(?<![a-z])age[^a-z]*(?:in[^a-z]*)?(?:{words})(?![a-z])"
        rf"|(?<![a-z])age[^a-z]+{words[0]}[^a-z0-9]*$",
        re.IGNORECASE,
    )
    for unit, words in (
        ("months", "months?|mons?|mos?|mths?|mnths?"),
        ("weeks", "weeks?|wks?"),
        ("days", "days?"),
    )
}


def hold_ages(*names: str) -> bool:
    """Whether one of the names of a column says that it holds ages."""
    return any(NAMED.search(name) for name in names)


def unit_named(column: str) -> str:
    """The unit of ages by the name of their column: years, months, weeks or days."""
    return next((unit for unit, name in _UNITS.items() if name.search(column)), "years")
