"""All English text of the page, in one place. Used by `pictures`, `live`, `offline` and `model`."""

TITLE = "FaceLiveNet+"
SUBTITLE = (
    "You are let in when your face matches your photograph <em>and</em> you do what you are asked: show an expression, "
    "turn your head."
)

TABS = {"live": "Live", "clip": "Video clip", "pair": "Two photographs", "model": "The model"}

REFERENCE = "1 · Your photograph"
REFERENCE_HELP = "Upload one or take it with the camera. Several of the same person are better than one."
NAME, NAME_HELP = "1 · Your name", "As the operator has enrolled you."
START, AGAIN = "2 · Start", "Try again"
CAMERA = "3 · Camera"
FROM_CAMERA = "Take a photograph with the camera"
PRIVACY = (
    "The camera's pictures are judged at once and never stored. Your photograph is deleted when you leave the page, "
    "or after {minutes} minutes."
)

PRIVACY_ENROLLED = "The camera's pictures are judged at once and never stored."

ASK = {
    "neutral": "Look into the camera with a neutral face",
    "anger": "Now look angry",
    "disgust": "Now look disgusted",
    "fear": "Now look frightened",
    "happy": "Now smile broadly",
    "sad": "Now look sad",
    "surprise": "Now look surprised",
    "contempt": "Now look contemptuous",
    "turn_left": "Now turn your head slowly to your left",
    "turn_right": "Now turn your head slowly to your right",
}
HOW = {
    "neutral": "Mouth closed, face relaxed. Hold it.",
    "anger": "Draw your brows together and press your lips.",
    "disgust": "Wrinkle your nose and raise your upper lip.",
    "fear": "Open your eyes wide and stretch your lips.",
    "happy": "Show your teeth, and hold it.",
    "sad": "Pull the corners of your mouth down.",
    "surprise": "Raise your brows and open your mouth.",
    "contempt": "Raise one corner of your mouth.",
    "turn_left": "Follow the arrow, as in a mirror, until the ring is full.",
    "turn_right": "Follow the arrow, as in a mirror, until the ring is full.",
}
NEUTRAL_AGAIN = "Now a neutral face again"
AHEAD_AGAIN = "Now look straight ahead again"
SHOWN = {
    "neutral": "neutral",
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "frightened",
    "happy": "smile",
    "sad": "sad",
    "surprise": "surprised",
    "contempt": "contemptuous",
    "turn_left": "turn left",
    "turn_right": "turn right",
}
"""What a step is called."""

WELCOME = "Give a photograph of yourself"
WELCOME_HELP = "Then press Start, look into the camera and do what it asks. It takes about ten seconds."
ALLOW = "Allow the camera if your browser asks."
COMING = {  # before the first use: a drawing, and what happens
    "neutral": "Look into the camera with a neutral face.",
    "expression": "When asked, smile, or show another expression.",
    "turn_left": "When asked, turn your head, then look ahead again.",
    "accepted": "After a few of these you are let in.",
}
NO_TURNS = (
    "Turns of the head are never asked for here. Without them a flat picture that changes at the right moment may pass."
)
NO_EXPRESSIONS = "Expressions are never asked for here, only turns of the head."
CAMERA_TITLE = "The camera cannot be used"
CAMERA_PROBLEMS = {  # by the name of the browser's error
    "NotAllowedError": "Your browser did not give it. Allow the camera for this page, then press Start again.",
    "NotFoundError": "No camera was found. Connect one, then press Start again.",
    "NotReadableError": "Another program is using it. Close that one, then press Start again.",
    "InsecureContext": "Browsers give it only to pages that came over https, or from this computer.",
    "other": "The browser could not open it. Check it in another program, then press Start again.",
}
ACCEPTED, ACCEPTED_HELP = "Accepted", "You are the person on the photograph, and you did what was asked."
REJECTED = "Rejected"
CANNOT_USE = "This photograph cannot be used"
SEE_NOTE = "Below the photograph it says why. Please give another one."
OVER, OVER_HELP = "This attempt is over", "Press Start for a new one."
BUSY, BUSY_HELP = "Busy", "Too many requests at once. Please try again in a moment."
NO_ANSWER, NO_ANSWER_HELP = "No answer", "The server could not be reached, or could not read what was sent. Try again."
DOWNLOADING_HELP = "The model is being downloaded. This takes a minute or more, the first time only."
LOADING, LOADING_HELP = "Not ready yet", "The model is being loaded. This takes some seconds."
ENDED = "The server has ended. Whoever started it finds the reason where it was started."
FULL, FULL_HELP = "Too many people at once", "Please try again in a minute."
WAIT, WAIT_HELP = "Too many failed attempts", "Please try again in {wait}."
SECONDS_LEFT = "{seconds} s left"
SECRET_STEP = "?"

HINTS = {
    "no_face": "No face in view: come closer, face the camera, and let light fall on you.",
    "several_faces": "More than one face in view: be alone before the camera.",
    "turned": "The picture lies on its side or upside down: turn the camera upright.",
    "eyes_covered": "Your eyes cannot be seen: take off what covers them.",
    "mouth_covered": "Your mouth cannot be seen: take off what covers it.",
    "blurred": "The picture is too blurred or too dark: hold still, and let light fall on you.",
    "unclear": "Your face cannot be seen clearly: face the camera, with nothing before it.",
    "different_person": "Your face does not match yet: look straight ahead, without a mask or sunglasses.",
    "no_frames": "The camera's picture could not be read.",
    "wrong_expression": "Not seen yet: show it clearly, and hold it.",
    "accepted": "Good. Hold it.",
    "turn_more": "A little further.",
    "turn_back": "Look straight ahead.",
    "other_side": "To the other side, please: follow the arrow.",
    "too_sudden": "That was too sudden. A neutral face once more, then slowly.",
    "mouth_only": "Only the mouth was seen to move: do it with your whole face, and let nothing cover it.",
}
"""What is wrong at the moment, or not: `Progress.hint`."""
LIVE_ADVICE = {
    "small": "Come closer to the camera.",
    "dark": "It is too dark: turn towards the light.",
    "bright": "It is too bright: turn away from the light.",
}
"""About the picture of the face: `View.advice`."""

NO_REFERENCE = "Please give a photograph first."
NO_NAME = "Please say who you are first."
DELETED = "The photograph has been deleted by now. Please give it again."
TOO_MANY_REFERENCES = "At most {most} photographs, please."
PROBLEMS = {
    "unreadable": "This photograph cannot be read ({cause}).",
    "no_face": "No face was found. Use a frontal photograph in good light.",
    "several_faces": "Several faces were found. Use a photograph of one person alone.",
}
GOOD = "One face found. This photograph can be used."
ADVICE = {
    "small": "the face is small: come closer",
    "dark": "it is dark: turn towards the light",
    "bright": "it is too bright: turn away from the light",
    "blurred": "it is blurred: hold still",
    "turned": "the face is turned away: look straight ahead",
    "unlike": "it does not look like the person on the others",
}
USABLE_BUT = "This photograph can be used, but {advice}."

PHOTOGRAPH, PROBE = "Photograph of the person", "Photograph to check"
CLIP, EXPRESSION = "Video clip to check", "Asked for"
CHECK = "Check"
EXAMPLES = "Examples, of drawn people who do not exist"
CLIP_HELP = (
    "For a clip that was filmed before. It is accepted if {frames} sampled frames in a row show the person and the "
    "expression, and nobody else is ever in view."
)
PAIR_HELP = "Is it the same person, and do they show what was asked for?"
CLIP_FIRST, PROBE_FIRST = "Please give a clip first.", "Please give a photograph to check first."
CANNOT_CHECK = "This cannot be checked"
PROBE_IS_CLIP = "This is a video clip. Check it in the tab for clips."
LOOKING = "Looking …"
SAME, NOT_SAME, NOT_KNOWN = "the same person", "another person", "not known"
ROW_PERSON, ROW_ASKED, ROW_SEEN, ROW_DECISION = "Person", "Asked for", "Seen", "Decision"

TIMELINE = "The attempt over time"
TIMELINE_CLIP = "The clip over time"
TIMELINE_SIMILARITY, TIMELINE_THRESHOLD = "similarity", "threshold"
TIMELINE_EXPRESSION, TIMELINE_COUNTED = "asked expression", "frames that counted"
SECONDS = "seconds"
OPERATOR_FRAME = "{reason} · {rate:.0f} frames/s"

NO_RESULTS = "No results come with this model: nothing is known about how well it works."
MODEL_ABOUT = (
    "Model {name}, revision {revision}: {parameters:.1f} million numbers, which say in one pass who is before the "
    "camera and which expression they show. Attempts ask for: {challenges}."
)
MODEL_RECALL = "How often each expression is recognised"
MODEL_VERIFICATION = "How well it tells people apart"
MODEL_NUMBERS = "All numbers, on people it has never seen"
MODEL_HEADERS = ("", "value", "of", "95 % interval")
PAIRS_OF = "pairs, people:"
AUC = "telling people apart (area under the curve)"
TAR = "the same person recognised, where the rate of strangers let in is {far:g}"
FAR = "strangers taken for the person"
FRR = "photographs of the person not recognised"
EXPRESSIONS_RIGHT = "expressions named right"
DECISIONS_RIGHT = "right decisions, asked for {asked}"
DECISIONS_FAR = "wrongly accepted"
ATTEMPTS_FRR = "simulated attempts of the right person rejected"
ATTACK = "accepted attacks: {about}"
CURVE = "rate of the same person recognised, over the rate of strangers let in"
MODEL_LIMITS = "What it cannot do"
LIMITS = (
    "A video that shows the right actions at the right moments, a live deepfake, or a stream injected in place of the "
    "camera passes the challenge.",
    "It was trained on few people and judged on few. Do not let it guard anything.",
)
