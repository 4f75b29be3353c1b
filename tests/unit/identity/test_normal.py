"""One spelling of a path, or none."""

import pytest

from mesh.identity.normal import Ambiguous, normal_host, normal_path


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("//a///b//", "/a/b/"),
        ("/./a/./b/.", "/a/b/"),
        ("/a/b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/%61%2Db", "/a-b"),
        ("/%2e%2E/a", "/a"),
        ("/a%2eb", "/a.b"),
        ("/%7euser", "/~user"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b%25", "/a%20b%25"),
        ("/a%252f", "/a%252f"),
        ("/a;b=c/;d", "/a;b=c/;d"),
        ("/...", "/..."),
        ("/items%3Adelete", "/items:delete"),
        ("/%40admin/%28a%29%2b%2C%3d", "/@admin/(a)+,="),
        ("/%21%24%26%27%2a", "/!$&'*"),
        ("/x%7by%7C%5b%22%3e", "/x%7By%7C%5B%22%3E"),
        ("/..a/.b", "/..a/.b"),
    ],
)
def test_a_path_has_one_form(path: str, normal: str) -> None:
    assert normal_path(path) == normal
    assert normal_path(normal) == normal


READ_IN_TWO_WAYS = "/a%2fb /a%2Fb /a%5cb /a\\b /a%00 /% /%4 /%4g /%u0041 /a/..;/b /.;x /%2e%2e; /a//.. /..//a"
READ_IN_TWO_WAYS += ' /a%3bb /x{y /x} /a|b /a[0] /a"b /<a> /a^ /a` /caf\xe9 /a#b'


@pytest.mark.parametrize("path", READ_IN_TWO_WAYS.split())
def test_what_servers_read_in_several_ways_has_none(path: str) -> None:
    with pytest.raises(Ambiguous):
        normal_path(path)


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("", ""),
        ("Shop.Example", "shop.example"),
        ("shop.example:8080", "shop.example"),
        ("shop.example.", "shop.example"),
        ("shop.example.:80", "shop.example"),
        ("shop:", "shop"),
        ("[FD00::1]", "[fd00::1]"),
        ("[fd00::1]:80", "[fd00::1]"),
        ("10.0.0.1:80", "10.0.0.1"),
    ],
)
def test_a_host_is_compared_without_port_final_dot_and_case(host: str, normal: str) -> None:
    assert normal_host(host) == normal


def test_an_escape_in_a_host_has_two_readings() -> None:
    with pytest.raises(Ambiguous):
        normal_host("%61.example")
