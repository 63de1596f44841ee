"""What looks at a restored set, what damages copies of it, and where drills are written down.

`sandbox.py` (the directory of one drill, and what killed ones left), `book.py` (the table), and one examiner for each
artefact: it reads below its `Subject` alone, and knows the mutants that it must notice.
"""
