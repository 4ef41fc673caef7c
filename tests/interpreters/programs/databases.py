import sqlite3
with sqlite3.connect("test.db") as db:
    db.execute("create table item (id integer primary key, name text unique, price real, tags blob)")
    db.executemany("insert into item (name, price, tags) values (?, ?, ?)",
                   [(f"item {i}", i * 1.25, bytes([i] * i)) for i in range(1, 21)])
    db.execute("create index by_price on item (price)")
print(db.execute("select count(*), sum(price), avg(price), max(length(tags)) from item").fetchone())
print(db.execute("select name, price from item where price between 5 and 9 order by price desc").fetchall())
print(db.execute("with recursive f(a, b) as (select 0, 1 union all select b, a + b from f where b < 500) select group_concat(a) from f").fetchone())
print(db.execute("select name, rank() over (order by price desc), sum(price) over (order by id rows 2 preceding) from item limit 4").fetchall())
try:
    with db:
        db.execute("delete from item")
        db.execute("insert into item (id, name) values (1, 'x'), (1, 'y')")
except sqlite3.IntegrityError as problem:
    print("IntegrityError", problem)
print(db.execute("select count(*) from item").fetchone())
db.create_function("twice", 1, lambda x: x * 2)
db.row_factory = sqlite3.Row
row = db.execute("select id, twice(price) as p from item where name = :name", {"name": "item 7"}).fetchone()
print(dict(row), row.keys())
db.close()
db = sqlite3.connect("test.db")
print(db.execute("pragma integrity_check").fetchone(), db.execute("select json_extract('{\"a\": [1, 2]}', '$.a[1]')").fetchone())
print(db.execute("select id from item where name like '%1%' and price > 12").fetchall(), len(list(db.iterdump())))
try: db.execute("selec 1")
except sqlite3.OperationalError as problem: print(problem)
db.close()
