"""The official Kaggle client: its credentials, which are never printed, and its errors as sentences."""

import base64
import binascii
import contextlib
import html
import importlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import requests

from voclab.errors import VoclabError
from voclab.text import plain

_VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
_FIELDS = ("username", "key")  # of kaggle.json, and of the client
_FILES = ("kaggle.json", "credentials.json", "access_token", "access_token.txt")
_SHORTEST = 4  # letters of what counts as a secret
_CREDENTIALS = re.compile(r"KGAT_[\w.-]+|(?<=\bBearer )\S+|(?<=\bBasic )(?=\S*[\d=+/])\S{8,}", re.IGNORECASE)
_used: set[str] = set()  # keys and tokens that the client was given in this process
_REMEDY = (
    "create a token on https://www.kaggle.com/settings and put it into ~/.kaggle/kaggle.json,"
    " KAGGLE_USERNAME and KAGGLE_KEY, or KAGGLE_API_TOKEN (variables, or secrets of a Colab notebook)"
)


def kaggle_api():
    """The authenticated ``KaggleApi`` of the official client.

    Credentials are looked for where the client does: in the variables ``KAGGLE_API_TOKEN`` or
    ``KAGGLE_USERNAME`` and ``KAGGLE_KEY``, then in ``~/.kaggle/`` (or ``KAGGLE_CONFIG_DIR``); and, where
    there are none, in the secrets of the same names of a Colab notebook, which the client does not know.

    The client is imported here and not before: without credentials its import ends the process in some
    versions, asks the network in others and prints a page of help in most.

    Raises:
        VoclabError: the client is not installed, finds no credentials, Kaggle refuses them or cannot be
            reached.
    """
    try:
        try:
            return _authenticated()
        except (ImportError, requests.RequestException):
            raise
        except (SystemExit, Exception) as error:  # each version has its own for the same
            secrets, why_not = _colab_secrets()
            if not secrets:
                raise _no_credentials(error, why_not) from None
            with _variables(secrets):
                return _authenticated()
    except ImportError:
        raise VoclabError("The kaggle client is not installed; run `pip install kaggle`.") from None
    except requests.exceptions.InvalidHeader:  # a token with a line end, say
        raise _refused_credentials() from None
    except requests.HTTPError as error:
        status, _ = answered(error)
        if status < 500:
            raise _refused_credentials() from None
        raise VoclabError(f"Kaggle answered {status} to the credentials; try again later.") from None
    except requests.RequestException as error:
        raise _unreachable(error) from None
    except VoclabError:
        raise
    except (SystemExit, Exception):  # with the secrets
        raise _refused_credentials() from None


def check_competition(competition: str) -> str:
    """The address of a competition; ``VoclabError`` if its name cannot be one."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", competition):
        raise VoclabError(
            f"{competition!r} is no competition; name the last part of its address, such as"
            " kul-computer-vision-ga-2-2026."
        )
    return f"https://www.kaggle.com/competitions/{competition}"


@contextlib.contextmanager
def asking(competition: str) -> Iterator[None]:
    """Ask the client something about a competition in the block; what it raises becomes a ``VoclabError``.

    Its own error is not chained to it: a traceback would show what the server said, key and all.
    """
    try:
        with quiet():
            yield
    except requests.HTTPError as error:
        raise refusal(error, competition) from None
    except requests.RequestException as error:
        raise _unreachable(error) from None
    except Exception as error:  # the client takes an answer apart without looking
        raise VoclabError(
            f"Kaggle's answer about {check_competition(competition)} has a form that the kaggle client does"
            f" not know ({reason(error)}); update it with `pip install --upgrade kaggle`, or use that page."
        ) from None


def refusal(error: requests.HTTPError, competition: str) -> VoclabError:
    """The sentence for an error that Kaggle answered to a request about a competition."""
    status, message = answered(error)
    address = check_competition(competition)
    said = f" (“{message}”)" if message else ""
    if not status:
        return _unreachable(error)
    if status == 401:
        return _refused_credentials()
    if status == 403:
        remedy = "join the competition and accept the rules there, with the account of the credentials"
    elif status == 404:
        remedy = "check the name of the competition"
    elif status in (408, 429) or status >= 500:
        remedy = "try again later"
    else:
        remedy = "mend what it names"
    return VoclabError(f"Kaggle answered {status} for {address}{said}; {remedy}.")


def answered(error: requests.HTTPError) -> tuple[int, str]:
    """Status and message of Kaggle's answer; the client also raises for an error inside a 200."""
    response = error.response
    if response is None:
        return 0, ""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = {}
    body = body if isinstance(body, dict) else {}
    code, message = body.get("code"), body.get("message")
    message = clean(message).rstrip(".") if isinstance(message, str) else ""
    status = code if isinstance(code, int) and response.ok else response.status_code
    return status, message


def clean(value: object, length: int = 200) -> str:
    """A value of Kaggle's answers as one short line: printable, and with every key and token taken out."""
    text = "" if value is None else " ".join(plain(value).split())
    secrets = {secret for secret in _secrets() if len(secret) >= _SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    text = _CREDENTIALS.sub("***", text)
    words = (
        "***" if any(s in hidden for hidden in _read(word) for s in secrets) else word
        for word in text.split()
    )
    return " ".join(words)[:length]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the client and its libraries print (advice, addresses) off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def reason(error: Exception) -> str:
    """One short phrase for an exception: its name in words, since requests nests several."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?=[A-Z][a-z])", " ", type(error).__name__).strip("_ ").lower()


def _authenticated():
    with quiet():
        from kaggle.api.kaggle_api_extended import KaggleApi

        api = KaggleApi()
        api.authenticate()
    values = api.config_values
    _used.update(str(values[name]) for name in ("key", "token") if values.get(name))
    # The client takes a kaggle.json as it is: without a key, or with a number for one.
    if not (values.get("token") or all(_is_filled(values.get(name)) for name in _FIELDS)):
        raise ValueError
    return api


def _colab_secrets() -> tuple[dict[str, str], str]:
    """Credentials among a Colab notebook's secrets; else none, and why not."""
    try:
        userdata = importlib.import_module("google.colab.userdata")
    except ImportError:
        return {}, ""
    found, why_not = {}, []
    for name in _VARIABLES:
        try:
            found[name] = userdata.get(name)
        except Exception as error:  # missing, not granted, no notebook: each its own class, of Colab only
            why_not.append(f"{name}: {reason(error)}")
    if found.get("KAGGLE_API_TOKEN") or (found.get("KAGGLE_USERNAME") and found.get("KAGGLE_KEY")):
        return {name: value for name, value in found.items() if value}, ""
    return {}, f", nor among Colab's secrets ({', '.join(why_not)})"


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the length of the block: later programs must not inherit a secret."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _no_credentials(error: BaseException, why_not: str) -> VoclabError:
    broken = _broken_file()
    if broken:
        return broken
    if isinstance(error, OSError) and error.filename:  # the client makes the folder of its kaggle.json
        return VoclabError(f"{error.filename} cannot be opened ({error.strerror}); check its permissions.")
    if os.environ.get("KAGGLE_API_TOKEN"):  # the client passes over a token that Kaggle does not know
        return _refused_credentials()
    others = [path for folder in _folders() for path in sorted(folder.glob("kaggle*.json*"))]
    misnamed = f"; {others[0]} is not read, rename it to kaggle.json" if others else ""
    return VoclabError(f"The kaggle client found no credentials{why_not}{misnamed}; {_REMEDY}.")


def _refused_credentials() -> VoclabError:
    return _broken_file() or VoclabError(
        f"Kaggle does not accept the credentials (wrong, or expired); {_REMEDY}."
    )


def _unreachable(error: Exception) -> VoclabError:
    return VoclabError(f"Kaggle cannot be reached ({reason(error)}); check the network.")


def _folders() -> list[Path]:
    """Where the client looks for ``kaggle.json``: in the first of them that is there."""
    home, config = os.path.expanduser("~"), os.environ.get("XDG_CONFIG_HOME")
    named = os.environ.get("KAGGLE_CONFIG_DIR")
    return [Path(named)] if named else [Path(home, ".kaggle"), Path(config or f"{home}/.config", "kaggle")]


def _broken_file() -> VoclabError | None:
    """The sentence for a ``kaggle.json`` without name and key, where no variable makes it needless."""
    if os.environ.get("KAGGLE_API_TOKEN") or all(map(os.environ.get, ("KAGGLE_USERNAME", "KAGGLE_KEY"))):
        return None
    for path in (folder / "kaggle.json" for folder in _folders()):
        try:
            why = _fault(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            why = f"it cannot be read ({error.strerror})"
        if not why:
            break
        return VoclabError(
            f"{path} is broken: {why}; create a new one on https://www.kaggle.com/settings, or write"
            ' {"username": "…", "key": "…"} into it, as UTF-8 without a byte order mark.'
        )
    return None


def _fault(data: bytes) -> str:
    """What is wrong with the content of a ``kaggle.json``, none of which is repeated; empty if nothing."""
    if data.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark (BOM)"
    try:
        values = json.loads(data.decode())
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    except json.JSONDecodeError as error:
        return (
            f"it is not JSON (line {error.lineno}, column {error.colno})" if data.strip() else "it is empty"
        )
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(values, dict):
        return "it holds no username and key"
    for name in _FIELDS:
        if name not in values:
            return f"it has no {name}"
        if not _is_filled(values[name]):
            return f"its {name} is no text, or empty"
    return ""


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _secrets() -> Iterator[str]:
    """Everything that may be a key or token: of the client, the environment and the files of credentials."""
    yield from _used
    for name, value in os.environ.items():
        if name.startswith("KAGGLE_") and ("KEY" in name or "TOKEN" in name):
            yield value
    folders = {*_folders(), Path(os.path.expanduser("~"), ".kaggle")}
    named = [os.environ.get(name, "") for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN")]
    for path in (*(folder / name for folder in folders for name in _FILES), *map(Path, filter(None, named))):
        try:
            text = path.read_text(encoding="utf-8-sig", errors="ignore")
        except (OSError, ValueError):  # a token itself is no path
            continue
        yield from re.findall(r"""(?:key|token)["']?\s*[:=]\s*["']?([\w.~+/=-]+)""", text)
        if len(text.split()) == 1:
            yield text.strip()


def _read(word: str) -> Iterator[str]:
    """What a word may stand for: percent codes, entities, and base64, as in a header of user and key."""
    decoded = html.unescape(unquote_plus(word))
    yield decoded
    for code in re.findall(r"[\w+/-]{8,}", decoded):
        with contextlib.suppress(binascii.Error, ValueError):
            code = code.replace("-", "+").replace("_", "/")
            yield base64.b64decode(code + "=" * (-len(code) % 4)).decode("utf-8", "replace")
