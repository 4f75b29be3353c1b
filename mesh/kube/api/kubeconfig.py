"""Child process: reads a kubeconfig with the package `kubernetes` and says what it found, as JSON on stdout.

Apart, because that package costs 25 MiB when imported, and because credential plugins are run by it: whatever they do
happens here. On failure the last line on stderr is a sentence, and nothing secret is in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from mesh.kube.api.access import Credentials


def text_of(path: str | None) -> str:
    return Path(path).read_text(encoding="ascii") if path else ""


def read(path: str) -> Credentials:
    """Raises what the package raises."""
    from kubernetes import client, config

    found = client.Configuration()
    config.load_kube_config(config_file=path, client_configuration=found)  # type: ignore[no-untyped-call]
    kind, _, token = (found.get_api_key_with_prefix("authorization", "BearerToken") or "").rpartition(" ")
    if kind not in ("", "Bearer"):
        raise ValueError(f"authentication by {kind} is not known here; use a token or a client certificate")
    return Credentials(
        server=found.host,
        authority=text_of(found.ssl_ca_cert),
        certificate=text_of(found.cert_file),
        key=text_of(found.key_file),
        token=token,
        server_name=found.tls_server_name or "",
        verify=bool(found.verify_ssl),
    )


def main() -> int:
    try:
        credentials = read(sys.argv[1])
    except ImportError:
        print("the package `kubernetes` is missing: pip install 'seine-mesh[kubernetes]'", file=sys.stderr)  # noqa: T201
        return 1
    except Exception as error:  # noqa: BLE001 (a library's, of any kind; this process has nothing else to do)
        print(f"it cannot be used: {' '.join(str(error).split())[:300]}", file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(credentials))
    return 0


if __name__ == "__main__":
    sys.exit(main())
