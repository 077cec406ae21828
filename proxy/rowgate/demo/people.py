"""Made-up people and what they ordered: plausible, and the same for the same seed.

Nobody real is met by accident: e-mail addresses end in the reserved example domains (RFC 2606), and telephone numbers
come from ranges set aside for fiction (North America, Ofcom, Bundesnetzagentur, ARCEP) or never assigned (Korean mobile
numbers do not go on with a 0 after 010).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

# A Korean retailer's customers: most live in Korea.
KOREAN_SHARE: Final = 0.8
# The last day on which somebody ordered: fixed, or the same seed would give other orders tomorrow.
LAST_ORDER: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ORDER_DAYS: Final = 90

_DOMAINS: Final = ("example.com", "example.org", "example.net", "mail.example", "post.example")

# Surnames with their share in Korea (census of 2015, percent) and usual romanisation.
_SURNAMES: Final = {
    "김": ("kim", 21.5), "이": ("lee", 14.7), "박": ("park", 8.4), "최": ("choi", 4.7), "정": ("jung", 4.3),
    "강": ("kang", 2.4), "조": ("cho", 2.1), "윤": ("yoon", 2.1), "장": ("jang", 2.0), "임": ("lim", 1.7),
    "한": ("han", 1.5), "오": ("oh", 1.5), "서": ("seo", 1.5), "신": ("shin", 1.5), "권": ("kwon", 1.4),
    "황": ("hwang", 1.4), "안": ("ahn", 1.4), "송": ("song", 1.4), "류": ("ryu", 1.3), "홍": ("hong", 1.1),
}  # fmt: skip
_FIRST: Final = {
    "민": "min", "서": "seo", "지": "ji", "예": "ye", "도": "do", "하": "ha", "주": "ju", "시": "si", "은": "eun",
    "수": "su", "현": "hyun", "유": "yu", "재": "jae", "태": "tae", "소": "so", "채": "chae", "건": "geon",
}  # fmt: skip
_SECOND: Final = {
    "준": "jun", "연": "yeon", "우": "woo", "윤": "yoon", "현": "hyun", "아": "a", "은": "eun", "원": "won", "호": "ho",
    "진": "jin", "영": "young", "빈": "bin", "율": "yul", "린": "rin", "민": "min", "희": "hee", "혁": "hyuk",
}  # fmt: skip
_DISTRICTS: Final = (
    ("서울특별시 마포구", ("양화로", "월드컵북로", "독막로")),
    ("서울특별시 송파구", ("올림픽로", "송파대로", "백제고분로")),
    ("서울특별시 강서구", ("공항대로", "화곡로", "양천로")),
    ("부산광역시 해운대구", ("센텀중앙로", "해운대로", "달맞이길")),
    ("대구광역시 수성구", ("동대구로", "달구벌대로", "범어로")),
    ("인천광역시 연수구", ("송도과학로", "컨벤시아대로", "청능대로")),
    ("광주광역시 서구", ("상무대로", "운천로", "시청로")),
    ("대전광역시 유성구", ("대학로", "엑스포로", "은구비로")),
    ("경기도 성남시 분당구", ("판교역로", "불정로", "정자일로")),
    ("경기도 수원시 영통구", ("광교중앙로", "영통로", "매영로")),
    ("제주특별자치도 제주시", ("연북로", "노형로", "도령로")),
)


@dataclass(frozen=True, slots=True)
class _Country:
    given: tuple[str, ...]
    family: tuple[str, ...]
    streets: tuple[str, ...]
    towns: tuple[str, ...]
    phone: str  # every # becomes a digit
    address: str


_ABROAD: Final = (
    _Country(
        ("Olivia", "James", "Sofia", "Ethan", "Maya", "Daniel", "Grace", "Noah"),
        ("Carter", "Nguyen", "Johnson", "Garcia", "Brooks", "Patel", "Miller", "Reyes"),
        ("Maple Ave", "Cedar St", "Lincoln Blvd", "Oak Dr"),
        ("Seattle, WA 98101", "Austin, TX 78701", "Denver, CO 80202", "Chicago, IL 60601"),
        "+1 202-555-01##",
        "{number} {street}, Apt {flat}, {town}, USA",
    ),
    _Country(
        ("Amelia", "Oliver", "Isla", "George", "Priya", "Harry", "Freya", "Callum"),
        ("Smith", "Khan", "Taylor", "Evans", "Wilson", "Okafor", "Walker", "Hughes"),
        ("High Street", "Station Road", "Church Lane", "Mill Road"),
        ("Leeds LS1 4AB", "Bristol BS1 5TY", "Cardiff CF10 1EP", "Glasgow G2 1DU"),
        "+44 7700 900###",
        "Flat {flat}, {number} {street}, {town}, UK",
    ),
    _Country(
        ("Anna", "Lukas", "Mia", "Jonas", "Emilia", "Felix", "Lea", "Paul"),
        ("Müller", "Schmidt", "Yılmaz", "Weber", "Fischer", "Kowalski", "Becker", "Krüger"),
        ("Hauptstraße", "Gartenweg", "Lindenallee", "Bahnhofstraße"),
        ("10115 Berlin", "20095 Hamburg", "80331 München", "50667 Köln"),
        "+49 30 23125 ###",
        "{street} {number}, {town}, Deutschland",
    ),
    _Country(
        ("Camille", "Louis", "Chloé", "Hugo", "Inès", "Gabriel", "Zoé", "Adam"),
        ("Martin", "Bernard", "Dubois", "Benali", "Moreau", "Lefèvre", "Roux", "Diallo"),
        ("rue de la Paix", "avenue Foch", "rue Victor Hugo", "quai des Brumes"),
        ("75011 Paris", "69002 Lyon", "13001 Marseille", "31000 Toulouse"),
        "+33 6 39 98 ## ##",
        "{number} {street}, {town}, France",
    ),
)

_ITEMS: Final = (
    ("쌀 10kg", 34_900), ("생수 2L × 12", 9_900), ("사과 3kg", 19_800), ("라면 40개", 28_500), ("기저귀 4팩", 42_000),
    ("세탁세제 5L", 15_900), ("커피 원두 1kg", 23_500), ("무선 이어폰", 89_000), ("운동화", 74_000),
    ("책상 의자", 129_000), ("고양이 사료 8kg", 38_000), ("전기 주전자", 31_000),
)  # fmt: skip
_MAX_QUANTITY: Final = 3

_ASCII: Final = str.maketrans("üéèïıëßÜ", "ueeiiesU")


class Person(NamedTuple):
    """A row of ``customers``."""

    id: int
    name: str
    email: str
    phone: str
    address: str
    door_code: str


class Order(NamedTuple):
    """A row of ``orders``; ``total`` in won."""

    id: int
    customer_id: int
    ordered_at: datetime
    item: str
    total: int


def people(rng: random.Random, count: int) -> Iterator[Person]:
    """Yield ``count`` people with the ids 1 to ``count``; no two share an e-mail address."""
    surnames = list(_SURNAMES)
    weights = [share for _, share in _SURNAMES.values()]
    for identity in range(1, count + 1):
        if rng.random() < KOREAN_SHARE:
            yield _korean(rng, identity, rng.choices(surnames, weights)[0])
        else:
            yield _foreigner(rng, identity, rng.choice(_ABROAD))


def orders(rng: random.Random, count: int, customers: int) -> Iterator[Order]:
    """Yield ``count`` orders of customers 1 to ``customers`` in the order of time, with the ids 1 to ``count``."""
    step = timedelta(days=ORDER_DAYS) / count
    for identity in range(1, count + 1):
        item, price = rng.choice(_ITEMS)
        moment = LAST_ORDER - step * (count - identity)
        total = price * rng.randint(1, _MAX_QUANTITY)
        yield Order(identity, rng.randint(1, customers), moment.replace(microsecond=0), item, total)


def _korean(rng: random.Random, identity: int, surname: str) -> Person:
    first, second = rng.choice(list(_FIRST)), rng.choice(list(_SECOND))
    district, streets = rng.choice(_DISTRICTS)
    block, flat = rng.randint(101, 118), rng.randint(1, 24) * 100 + rng.randint(1, 6)
    return Person(
        identity,
        surname + first + second,
        _email(rng, identity, _FIRST[first] + _SECOND[second], _SURNAMES[surname][0]),
        _digits(rng, "010-0###-####"),
        f"{district} {rng.choice(streets)} {rng.randint(1, 320)}, {block}동 {flat}호",
        _digits(rng, "####*"),
    )


def _foreigner(rng: random.Random, identity: int, country: _Country) -> Person:
    given, family = rng.choice(country.given), rng.choice(country.family)
    address = country.address.format(
        number=rng.randint(1, 240),
        street=rng.choice(country.streets),
        flat=rng.randint(1, 60),
        town=rng.choice(country.towns),
    )
    email = _email(rng, identity, given.translate(_ASCII).lower(), family.translate(_ASCII).lower())
    return Person(identity, f"{given} {family}", email, _digits(rng, country.phone), address, _digits(rng, "#####"))


def _email(rng: random.Random, identity: int, given: str, family: str) -> str:
    return f"{given}.{family}{identity}@{rng.choice(_DOMAINS)}"


def _digits(rng: random.Random, pattern: str) -> str:
    return "".join(str(rng.randrange(10)) if each == "#" else each for each in pattern)
