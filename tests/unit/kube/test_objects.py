import msgspec
import pytest

from mesh.kube.objects import KINDS, EndpointSlice


@pytest.mark.parametrize("kind", KINDS)
def test_json_of_an_api_server_decodes_with_the_same_structs(kind):
    text = b'{"kind":"x","apiVersion":"y","metadata":{"name":"a","labels":null,"managedFields":[{"manager":"m"}]}}'
    assert msgspec.json.decode(text, type=KINDS[kind][1]).metadata.name == "a"


def test_what_an_api_server_writes_for_an_empty_slice():
    text = b'{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":null,"ports":null}'
    found = msgspec.json.decode(text, type=EndpointSlice)
    assert (found.endpoints, found.ports) == (None, None)
