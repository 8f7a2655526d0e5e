"""Attacks on live sessions: renders what a camera would see of them and shows it to the shipped session.

`python -m evaluation.attacks` runs them. The modules, in the order in which a photograph passes them:

| module | what it does |
| --- | --- |
| `people` | chooses each person's photographs from a prepared corpus |
| `renderings` | renders the frame in which a camera sees a photograph that somebody holds up |
| `observations` | the detector's and the network's output for a rendered frame, cached on disk |
| `actors` | what an attacker, or a genuine person, shows in each frame of a session |
| `simulation` | plays the sessions and reports APCER and BPCER |
| `command`, `__main__` | the command and its arguments |
"""
