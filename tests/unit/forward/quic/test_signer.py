"""A signature comes from the agent or not at all, and nobody waits for an agent that is away."""

from mesh.forward.messages import Message, Sign
from mesh.forward.quic.signer import WAITING_MAX, Signer


def test_answers_find_who_asked() -> None:
    signer, said, heard = Signer(), list[Message](), dict[str, bytes]()
    signer.meet(said.append)
    signer.sign("a", b"content of a", lambda signature: heard.update(a=signature))
    signer.sign("b", b"content of b", lambda signature: heard.update(b=signature))
    assert [(each.identity, each.content) for each in said if isinstance(each, Sign)] == [
        ("a", b"content of a"),
        ("b", b"content of b"),
    ]
    first, second = (each.job for each in said if isinstance(each, Sign))
    signer.signed(second, b"of b")
    signer.signed(first, b"of a")
    signer.signed(first, b"again")
    assert heard == {"a": b"of a", "b": b"of b"}


def test_without_an_agent_the_answer_is_none_at_once() -> None:
    signer, heard = Signer(), list[bytes]()
    signer.sign("a", b"", heard.append)
    signer.meet(lambda message: None)
    signer.sign("a", b"", heard.append)
    assert heard == [b""]
    signer.part()
    assert heard == [b"", b""]


def test_a_silent_agent_is_asked_so_often_and_no_more() -> None:
    signer, heard = Signer(), list[bytes]()
    signer.meet(lambda message: None)
    for _ in range(WAITING_MAX + 1):
        signer.sign("a", b"", heard.append)
    assert heard == [b""]
