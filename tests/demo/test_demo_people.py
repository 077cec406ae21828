"""Made-up people: the same for the same seed, one e-mail address each, nobody real."""

import random
import re
from datetime import timedelta
from itertools import islice

from rowgate.demo.people import LAST_ORDER, ORDER_DAYS, Person, orders, people

COUNT = 3_000
# Ranges that no real subscriber has: see the module's docstring.
NOBODY = re.compile(
    r"010-0\d{3}-\d{4}|\+1 202-555-01\d\d|\+44 7700 900\d{3}|\+49 30 23125 \d{3}|\+33 6 39 98 \d\d \d\d"
)
RESERVED = re.compile(r"[a-z.]+\d+@(example\.(com|org|net)|[a-z]+\.example)")


def seeded(seed: int = 1) -> random.Random:
    return random.Random(seed)  # noqa: S311 - made-up data


def some(seed: int = 1) -> list[Person]:
    return list(people(seeded(seed), COUNT))


def test_the_same_seed_gives_the_same_people_and_orders() -> None:
    assert some() == some()
    assert list(orders(seeded(), 500, COUNT)) == list(orders(seeded(), 500, COUNT))


def test_another_seed_gives_other_people() -> None:
    assert some(1) != some(2)


def test_ids_count_from_one_and_no_two_people_share_an_address() -> None:
    persons = some()
    assert [person.id for person in persons] == list(range(1, COUNT + 1))
    assert len({person.email for person in persons}) == COUNT


def test_nobody_real_is_met_by_accident() -> None:
    for person in some():
        assert RESERVED.fullmatch(person.email), person.email
        assert NOBODY.fullmatch(person.phone), person.phone


def test_most_people_are_korean_and_some_are_not() -> None:
    korean = sum("가" <= person.name[0] <= "힣" for person in some())
    assert 0.7 * COUNT < korean < 0.9 * COUNT


def test_no_field_of_a_person_is_empty() -> None:
    assert all(all(person) for person in some())


def test_a_longer_list_begins_like_a_shorter_one() -> None:
    assert list(islice(people(seeded(), COUNT * 2), COUNT)) == some()


def test_orders_come_in_the_order_of_time_from_customers_that_exist() -> None:
    made = list(orders(seeded(), COUNT, 50))
    moments = [order.ordered_at for order in made]
    assert [order.id for order in made] == list(range(1, COUNT + 1))
    assert moments == sorted(moments)
    assert moments[-1] == LAST_ORDER
    assert moments[0] >= LAST_ORDER - timedelta(days=ORDER_DAYS)
    assert {order.customer_id for order in made} <= set(range(1, 51))
    assert min(order.total for order in made) > 0
