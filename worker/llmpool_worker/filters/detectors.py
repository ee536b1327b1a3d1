"""What rules can look for by name: patterns with a check behind them.

They know shapes, not meanings: each has misses and false alarms, and none is a guarantee.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from .matching import Check, Matcher, of_pattern

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IP4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_SEP = "[ .-]"


@dataclass(frozen=True, slots=True)
class Detector:
    """A pattern, and what a candidate must pass."""

    pattern: str
    check: Check | None = None


def card(candidate: str) -> int | None:
    """A payment card's number by its check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(char) for char in candidate if char.isdigit()]
    if len(set(digits)) == 1:
        return None  # 0000 0000 0000 0000 passes
    doubled = (2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2])
    return len(candidate) if (sum(digits[::-2]) + sum(doubled)) % 10 == 0 else None


def iban(candidate: str) -> int | None:
    """An account's number by its check digits (ISO 13616, ISO/IEC 7064 mod 97-10); capitals after it are left out."""
    while candidate:
        number = candidate.replace(" ", "")
        turned = number[4:] + number[:4]
        if len(number) >= 15 and int("".join(str(int(char, 36)) for char in turned)) % 97 == 1:
            return len(candidate)
        candidate = candidate.rpartition(" ")[0]
    return None


def ip(candidate: str) -> int | None:
    """An address that Python's ipaddress takes too; ``::`` alone is none."""
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return None
    return len(candidate) if any(char.isalnum() for char in candidate) else None


def social_security_number(candidate: str) -> int | None:
    """A number that the United States can have given out: no part is all zeros, and none begins with 666 or 9."""
    area, group, serial = candidate.split("-")
    given = area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
    return len(candidate) if given else None


DETECTORS: dict[str, Detector] = {
    "email": Detector(r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}"),
    "phone": Detector(
        r"(?:\+|\b00)[1-9](?:[ ./()-]{0,2}[0-9]){6,14}\b"
        rf"|(?:\(|\b)[2-9][0-9]{{2}}\)?{_SEP}{{1,2}}[2-9][0-9]{{2}}{_SEP}[0-9]{{4}}\b"
    ),
    "credit_card": Detector(
        rf"\b(?:[0-9]{{4}}{_SEP}[0-9]{{4}}{_SEP}[0-9]{{4}}{_SEP}[0-9]{{4}}"
        rf"|3[0-9]{{3}}{_SEP}[0-9]{{6}}{_SEP}[0-9]{{4,5}}|[0-9]{{13,19}})\b",
        card,
    ),
    "iban": Detector(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", iban),
    "ip": Detector(
        r"(?:^|[^0-9A-Za-z_:.])(?P<hide>"
        rf"{_IP4}|(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:{_IP4}|[0-9A-Fa-f]{{0,4}})"
        r")(?:$|[^0-9A-Za-z_:.]|\.(?:$|[^0-9]))",
        ip,
    ),
    "us_ssn": Detector(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", social_security_number),
    "api_key": Detector(
        r"\b(?:sk-[A-Za-z0-9_-]{20,200}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
        r"|glpat-[A-Za-z0-9_-]{20,100}|xox[abeoprs]-[A-Za-z0-9-]{10,200}|hf_[A-Za-z0-9]{30,100}"
        r"|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{35})"
    ),
    "url_password": Detector(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@]{0,64}:(?P<hide>[^\s/@]{1,128})@"),
}


def of_detector(name: str) -> Matcher:
    """The matcher of a detector in :data:`DETECTORS`."""
    detector = DETECTORS[name]
    return of_pattern(detector.pattern, check=detector.check)
