"""Attacks on live sessions, rendered before a camera from photographs of people; `python -m evaluation.attacks`.

In the order in which a picture passes them:

| module | what it does |
| --- | --- |
| `people` | chooses each person's photographs from a prepared corpus |
| `renderings` | renders what a camera sees of a photograph that is held before it |
| `observations` | what the detector and the network say of a rendered picture, cached on disk |
| `actors` | what an attacker, or a genuine person, shows at each moment of a session |
| `simulation` | plays the sessions and reports APCER and BPCER |
| `command`, `__main__` | the command and its arguments |
"""
