"""Methods against each other: the same data, student, budget and seeds, each run in a process of its own.

`plan.py`: what is compared    `choices.py`: what a caller chooses of that    `cells.py`: the runs of a study
`runner.py`: trains what isn't trained yet    `child.py`: one run, in its process
`looking.py`: where its student looks    `pricing.py`: what it costs
`trials.py`: hyper-parameters    `search.py`: the runs that choose among these
`rows.py`, `summary.py`, `statistics.py`: what runs come to
`study.py`: the stage    `page.py`, `pictures.py`: its page
"""
