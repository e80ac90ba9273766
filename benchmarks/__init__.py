"""How fast the library is beside the shortest program that does the same with plain aiohttp; see README.md.

Each benchmark is a module that opens with its question, its method and its answer, and has a ``run``. What they share:

- `peers`: the server's side, a process of its own that sends bytes made beforehand;
- `measure`: a fresh process for every measurement, what it measured, and how rounds are summed up;
- `report`: results as text for a terminal and as the table in README.md.
"""
