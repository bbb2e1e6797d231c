"""Prints every row of Parquet files as a line of JSON, read by a library that others wrote.

Arguments: `pyarrow` or `duckdb`, and a folder; or `pyarrow`, s3://bucket/prefix, the endpoint's URL,
the region, the key id and the secret. Times are microseconds since the Unix epoch, payloads hex;
`file` is the file's path."""

import glob
import json
import sys
from urllib.parse import urlsplit

COLUMNS = ["id", "channel", "epoch", "offset", "type", "source", "key", "ts", "received",
           "content_type", "kind", "class", "traceparent", "attributes", "late", "payload"]


def main():
    reader, place = sys.argv[1:3]
    if reader == "duckdb":
        rows = read_duckdb(place)
    elif place.startswith("s3://"):
        rows = read_pyarrow(*bucket(place.removeprefix("s3://"), *sys.argv[3:]))
    else:
        rows = read_pyarrow(sorted(glob.glob(f"{place}/**/*.parquet", recursive=True)), None)
    for row in rows:
        print(json.dumps(row))


def bucket(place, url, region, access_key, secret_key):
    from pyarrow import fs

    endpoint = urlsplit(url)
    store = fs.S3FileSystem(access_key=access_key, secret_key=secret_key, region=region,
                            endpoint_override=endpoint.netloc, scheme=endpoint.scheme)
    found = store.get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
    return sorted(file.path for file in found if file.path.endswith(".parquet")), store


def read_pyarrow(paths, store):
    import pyarrow
    from pyarrow import parquet

    for path in paths:
        table = parquet.ParquetFile(path, filesystem=store).read()
        assert table.column_names == COLUMNS, table.column_names
        for name in ("ts", "received"):
            at = COLUMNS.index(name)
            assert table.schema.field(at).type == pyarrow.timestamp("us", "UTC"), table.schema
            table = table.set_column(at, name, table[name].cast(pyarrow.int64()))
        for row in table.to_pylist():
            yield row | {"payload": row["payload"].hex(), "file": path}


def read_duckdb(folder):
    import duckdb

    names = [f'"{name}"' for name in COLUMNS]
    for name in ("ts", "received"):
        names[COLUMNS.index(name)] = f"epoch_us({name})"
    rows = duckdb.sql(f"SELECT {', '.join(names)}, filename FROM read_parquet("
                      f"'{folder}/**/*.parquet', filename = true, hive_partitioning = false)")
    for row in rows.fetchall():
        row = dict(zip([*COLUMNS, "file"], row))
        yield row | {"payload": row["payload"].hex()}


main()
