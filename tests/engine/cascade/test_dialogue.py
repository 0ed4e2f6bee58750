"""What the cascade's language model reads of a query."""

from vita_duplex.engine.cascade.cascade import dialogue
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage

HISTORY = UserMessage("Hi."), AssistantMessage("Hello!")


def test_a_question_stands_behind_the_dialogue() -> None:
    query = Query(HISTORY, (), "Be brief.")
    assert dialogue(query, "And now?") == [
        ("system", "Be brief."),
        ("user", "Hi."),
        ("assistant", "Hello!"),
        ("user", "And now?"),
    ]


def test_without_a_question_the_model_goes_on() -> None:
    assert dialogue(Query(HISTORY, ()), None) == [("user", "Hi."), ("assistant", "Hello!")]
    assert dialogue(Query((), (), "Greet me."), None) == [("system", "Greet me.")]
    assert dialogue(Query((), ()), None) == [("user", "")], "a template wants one message at least"


def test_what_a_user_said_in_a_row_is_joined_as_its_script_is_written() -> None:
    english = Query((UserMessage("Well."),), ())
    chinese = Query((UserMessage("你好。"),), ())
    assert dialogue(english, "And now?") == [("user", "Well. And now?")]
    assert dialogue(chinese, "现在呢？") == [("user", "你好。现在呢？")]
