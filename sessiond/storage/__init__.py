"""The stores: one SQLite database and one NDJSON file a session, holding the same event lines byte for byte.

`store` is the commit, `database` opens SQLite, `catalog` asks it questions, `disk` and `files` own the
session files. The rooms: `commit` is what happens inside a commit, `recovery` what a start mends, `check`
tells what is wrong, `repair` mends it, `foreign` reads what comes from elsewhere. The one rule: only this
package blocks.
"""
