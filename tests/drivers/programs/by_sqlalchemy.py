"""SQLAlchemy 2 on psycopg and on asyncpg: reflection, ORM, streams, savepoints, two phases, inserts of many values."""

import asyncio
import os

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

URL = sa.URL.create(
    "postgresql",
    username=os.environ["PGUSER"],
    password=os.environ.get("PGPASSWORD"),
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
)


def say(what: str, value: object) -> None:
    """Report a result: it must be the same on every way to the server."""
    print(f"{what}: {value!r}")  # noqa: T201


class Base(orm.DeclarativeBase):
    """The tables below."""


class Person(Base):
    """Somebody, with orders."""

    __tablename__ = "drv_people"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    orders: orm.Mapped[list["Order"]] = orm.relationship(back_populates="by", order_by="Order.id")


class Order(Base):
    """What somebody ordered."""

    __tablename__ = "drv_orders"
    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(), primary_key=True)
    person: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("drv_people.id"))
    note: orm.Mapped[str | None]
    by: orm.Mapped[Person] = orm.relationship(back_populates="orders")


def fill(session: orm.Session) -> None:
    """Write and read through the ORM."""
    session.execute(sa.text("truncate drv_orders restart identity"))
    session.add_all([Order(person=n % 10 + 1, note=f"note {n}") for n in range(300)])  # insertmanyvalues: RETURNING
    session.flush()
    people = session.scalars(
        sa.select(Person).where(Person.id <= 10).options(orm.selectinload(Person.orders)).order_by(Person.id)
    )
    say("orders", [(person.name, len(person.orders), person.orders[0].id) for person in people])
    try:
        with session.begin_nested():
            session.execute(sa.insert(Order).values(person=-1))
    except sa.exc.IntegrityError as error:
        say("refused", type(error.orig).__name__)
    joined = sa.select(Person.name, sa.func.count(Order.id)).join(Order).group_by(Person.name).order_by(Person.name)
    say("counted", session.execute(joined).all())
    streamed = session.execute(sa.select(Person.id).order_by(Person.id), execution_options={"yield_per": 300})
    say("streamed", [len(part) for part in streamed.partitions()])
    session.commit()


def by_psycopg() -> None:
    engine = sa.create_engine(URL.set(drivername="postgresql+psycopg"), pool_size=1)
    inspector = sa.inspect(engine)
    say("tables", [inspector.has_table(name) for name in ("drv_people", "drv_nothing")])
    reflected = sa.Table("drv_orders", sa.MetaData(), autoload_with=engine)
    say("reflected", [(column.name, str(column.type), column.nullable) for column in reflected.columns])
    say("constraints", sorted(str(check["name"]) for check in inspector.get_check_constraints("drv_orders")))
    with orm.Session(engine) as session:
        fill(session)
    with engine.connect() as connection:
        with connection.begin_twophase("drv alchemy") as transaction:
            connection.execute(sa.insert(Order).values(person=1, note="two phases"))
            transaction.prepare()
            transaction.commit()
        say("two phases", connection.scalar(sa.select(sa.func.count()).where(Order.note == "two phases")))
    engine.dispose()


async def by_asyncpg() -> None:
    engine = create_async_engine(URL.set(drivername="postgresql+asyncpg"), pool_size=1)
    async with AsyncSession(engine) as session:
        await session.run_sync(fill)
    async with engine.connect() as connection:
        result = await connection.stream(sa.select(Person.id, Person.name).where(Person.id <= 100).order_by(Person.id))
        say("streamed", [row.id async for row in result])
    await engine.dispose()


by_psycopg()
asyncio.run(by_asyncpg())
