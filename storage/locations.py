"""Where a database is: URLs, study names, and text without passwords. Opens nothing."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

ENVIRONMENT = "BESTEPOCH_STORAGE"
DEFAULT_URL = "sqlite:///bestepoch.db"
MASK = "***"
NOT_ENCODED = "a password's special characters must be percent-encoded (@ is %40, / is %2F)"
SECRET_KEYS = frozenset({"password", "passwd", "sslpassword", "pwd", "passphrase"})

_STUDY_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
# The password of a URL may hold blanks, and an "@" that somebody forgot to encode.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^@\n]*@(?:\S*@)?")
_BARE_PASSWORD = re.compile(r"((?:^|[\s'\"])[^\s:/@'\"]*:)(?!//)\S*@")
_PAIR = re.compile(r"([\w%]+)(\s*=\s*)('[^']*'|\"[^\"]*\"|[^&;\s'\"]*)")


class StorageError(ValueError):
    """A person can mend this: one line that names the database without its password."""


class NoSweepError(StorageError):
    """There is no database yet, or no sweep in it."""


class StorageUnavailableError(StorageError):
    """The database does not answer now (locked, full, restarting); try again later."""


def check_study_name(name: str) -> str:
    """Return the name, which may stand in a file name, a URL and SQL; StorageError if not."""
    if not _STUDY_NAME.fullmatch(name) or name in {".", ".."}:
        raise StorageError(
            f"study name {name[:140]!r} must be 1 to 128 of the characters A-Z a-z 0-9 . _ -"
            " and not '.' or '..'"
        )
    return name


def resolve_url(given: str | None) -> str:
    """Return the full URL of the database, password included: never print it unredacted.

    Args:
        given: A URL or the path of an SQLite file; None or empty means the environment's
            ``BESTEPOCH_STORAGE``, else ``bestepoch.db`` in the current folder.

    Raises:
        StorageError: If it is neither an SQLite file nor a PostgreSQL server.
    """
    source = check_encoding(given or os.environ.get(ENVIRONMENT) or DEFAULT_URL)
    scheme, separator, rest = source.partition("://")
    if not separator:
        return _sqlite_url(source)
    if scheme == "sqlite":
        return source
    if scheme in {"postgres", "postgresql", "postgresql+psycopg"}:
        # The driver would take a part of the password for the host, and show it.
        if rest.partition("?")[0].count("@") > 1:
            raise StorageError(f"{redact(source)}: {NOT_ENCODED}")
        return f"postgresql+psycopg://{rest}"
    raise StorageError(
        f"{redact(source)}: unknown kind of database {redact(scheme)!r};"
        " use sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


def check_encoding(path: str) -> str:
    """Return the path; StorageError if it is not UTF-8, which SQLAlchemy and Optuna need."""
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = redact(path.encode("utf-8", "backslashreplace").decode())
        raise StorageError(
            f"{shown}: its name is not UTF-8; rename it, or give another file with --storage"
        ) from None
    return path


def _sqlite_url(path: str) -> str:
    # Never a file in practice, but a server's URL that lost its scheme, or what psql takes.
    if re.search(r":.*@", path) or re.search(r"\b(host|hostaddr|dbname|user|password)\s*=", path):
        raise StorageError(
            f"{redact(path)}: looks like a server without a scheme;"
            " write postgresql://USER@HOST/DATABASE"
        )
    # SQLAlchemy decides how a path is quoted: 2.1 decodes percent signs, 2.0 does not.
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(Path(path).expanduser()))
    return url.render_as_string(hide_password=False)


def redact(url_or_text: str) -> str:
    """Return the text with each password replaced by ``***``.

    Masks ``user:password@`` and the values of ``password``, ``passwd``, ``sslpassword`` and the
    like, in URLs and in ``key=value`` texts, percent-encoded keys included. Rather masks too
    much than too little.
    """
    text = _URL_PASSWORD.sub(rf"\g<1>{MASK}@", url_or_text)
    text = _BARE_PASSWORD.sub(rf"\g<1>{MASK}@", text)
    return _PAIR.sub(_mask_secret_value, text)


def _mask_secret_value(match: re.Match[str]) -> str:
    key, equals, _ = match.groups()
    return f"{key}{equals}{MASK}" if unquote(key).lower() in SECRET_KEYS else match.group(0)
