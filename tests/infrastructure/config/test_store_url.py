"""The password of a database is taken out of its address, in each form that libpq reads."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from infrastructure.config.store_url import split_password

ADDRESSES = [
    "postgresql://mailtoken:se%3Acret@db.contoso.com/mailtoken",
    "postgres://mailtoken:se%3Acret@one:5432,two:5433/mailtoken?target_session_attrs=read-write",
    "postgresql://mailtoken@db.contoso.com/mailtoken?password=se%3Acret",
    "postgresql://mailtoken@db.contoso.com/mailtoken?password=se%3Acret&sslmode=require",
    "postgresql:///mailtoken?sslmode=require&password=se%3Acret",
    "host=db.contoso.com password=se:cret user=mailtoken",
    "password='se:cret' host=db.contoso.com",
    "host=db.contoso.com password = 'se\\:cret'",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_the_password_is_taken_out_and_the_rest_stays(url: str) -> None:
    rest, password = split_password(url)
    known = conninfo_to_dict(url)
    assert known.pop("password") == password == "se:cret"
    assert conninfo_to_dict(rest) == known


@pytest.mark.parametrize(
    "url",
    ["postgresql://mailtoken@db.contoso.com:5432/a@b:c@d", "host=db.contoso.com dbname=password", "postgresql://"],
)
def test_an_address_without_a_password_stays_as_it_is(url: str) -> None:
    assert split_password(url) == (url, None)
