"""The ordinary Python client against the engine: insert as writer, select as analyst and as reader."""

import os
import sys
from urllib.parse import urlsplit

import clickhouse_connect


def client(who: str, database: str):
    variable = f"ANNALS_TEST_CLICKHOUSE{who}"
    url = urlsplit(os.environ["ANNALS_TEST_CLICKHOUSE"])
    return clickhouse_connect.get_client(
        host=url.hostname,
        port=url.port,
        username=os.environ[f"{variable}_USER"],
        password=os.environ[f"{variable}_PASSWORD"],
        database=database,
    )


def main(database: str) -> None:
    rows = [[f"/{number:04}", number] for number in range(5_000)]
    client("", database).insert("visits", rows, column_names=["path", "views"])

    query = "SELECT path, views FROM visits WHERE views >= %(least)s ORDER BY path"
    read = client("_READER", database).query(query, parameters={"least": 10}).result_rows
    assert read == [tuple(row) for row in rows[10:]], read[:3]

    analyst = client("_ANALYST", "default")
    assert analyst.query("SELECT sum(number) FROM numbers(10)").result_rows == [(45,)]
    try:
        analyst.query(f"SELECT * FROM {database}.visits")
    except clickhouse_connect.driver.exceptions.DatabaseError as error:
        assert "497" in str(error), error
    else:
        raise AssertionError("the analyst read a table that is not live")


main(sys.argv[1])
