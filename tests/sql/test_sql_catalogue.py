"""The value of one reading of a catalogue."""

from rowgate.sql.catalogue import Catalogue


def test_counts_what_is_the_entitys_or_not_known() -> None:
    catalogue = Catalogue(relations={1: "public.a", 2: "public.b"}, entities={"customer": frozenset({1})})
    assert catalogue.counts("customer", 1)
    assert not catalogue.counts("customer", 2)
    assert catalogue.counts("customer", 3)
    assert catalogue.counts("customer", 0)
    assert not catalogue.counts("other", 1)


def test_same_names_looks_at_nothing_but_names() -> None:
    one = Catalogue(relations={1: "a.b"}, impure_functions=frozenset({"f"}))
    assert one.same_names(Catalogue(impure_functions=frozenset({"f"})))
    assert not one.same_names(Catalogue())
    assert not one.same_names(None)
