"""All English texts of the page. `pictures`, `live`, `offline`, `model` and `loading` use them.

In these texts an image file is a "photograph", and what the camera sends is "video".
"""

TITLE = "FaceLiveNet+"
SUBTITLE = (
    "You are accepted if your face matches your photograph <em>and</em> you do what the page asks: show expressions "
    "and turn your head."
)

TABS = {"live": "Live", "clip": "Video clip", "pair": "Two photographs", "model": "The model"}

REFERENCE = "1 · Your photograph"
REFERENCE_HELP = "Upload a photograph, or take one with the camera. Several photographs work better than one."
NAME, NAME_HELP = "1 · Your name", "The name under which the operator has enrolled you."
START, AGAIN = "2 · Start", "Try again"
CAMERA = "3 · Camera"
FROM_CAMERA = "Take a photograph with the camera"
PRIVACY = (
    "The video is checked at once and never stored. Your photograph is deleted when you close the page, "
    "or after {minutes} minutes."
)

PRIVACY_ENROLLED = "The video is checked at once and never stored."

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
"""Short names of the actions."""

WELCOME = "Add a photograph of yourself"
WELCOME_HELP = "Then press Start, look into the camera, and do what the page asks. It takes about ten seconds."
ALLOW = "Allow the camera if your browser asks."
COMING = {  # shown before the first attempt, each with a drawing
    "neutral": "Look into the camera with a neutral face.",
    "expression": "When the page asks, smile or show another expression.",
    "turn_left": "When the page asks, turn your head, then look ahead again.",
    "accepted": "After a few such actions you are accepted.",
}
NO_TURNS = (
    "This page never asks for turns of the head. Without them, a photograph that is exchanged at the right time may "
    "pass."
)
NO_EXPRESSIONS = "This page never asks for expressions, only for turns of the head."
CAMERA_TITLE = "The camera cannot be used"
CAMERA_PROBLEMS = {  # by the name of the browser's error
    "NotAllowedError": "Your browser did not allow it. Allow the camera for this page, then press Start again.",
    "NotFoundError": "No camera was found. Connect one, then press Start again.",
    "NotReadableError": "Another program is using it. Close that program, then press Start again.",
    "InsecureContext": "Browsers allow the camera only on pages with https, or from this computer.",
    "other": "The browser could not open it. Test the camera in another program, then press Start again.",
}
ACCEPTED, ACCEPTED_HELP = "Accepted", "You are the person on the photograph, and you did what the page asked."
REJECTED = "Rejected"
CANNOT_USE = "This photograph cannot be used"
SEE_NOTE = "The reason is below the photograph. Please add another one."
OVER, OVER_HELP = "This attempt is over", "Press Start for a new one."
BUSY, BUSY_HELP = "Busy", "There are too many requests. Please try again in a moment."
NO_ANSWER, NO_ANSWER_HELP = (
    "No answer",
    "The server could not be reached, or could not read the request. Please try again.",
)
DOWNLOADING_HELP = "The model is being downloaded. This takes a minute or more, but only the first time."
LOADING, LOADING_HELP = "Not ready yet", "The model is being loaded. This takes some seconds."
ENDED = "The server has ended. The reason is in the terminal where it was started."
FULL, FULL_HELP = "Too many people at once", "Please try again in a minute."
WAIT, WAIT_HELP = "Too many failed attempts", "Please try again in {wait}."
SECONDS_LEFT = "{seconds} s left"
SECRET_STEP = "?"

HINTS = {
    "no_face": "No face is visible: come closer, face the camera, and turn towards the light.",
    "several_faces": "More than one face is visible: nobody else may be in front of the camera.",
    "turned": "The video is on its side or upside down: turn the camera upright.",
    "eyes_covered": "Your eyes cannot be seen: take off what covers them.",
    "mouth_covered": "Your mouth cannot be seen: take off what covers it.",
    "blurred": "The video is too blurred or too dark: hold still, and turn towards the light.",
    "noisy": "The video is too noisy: turn towards the light.",
    "compressed": "The camera's image is compressed too much: choose a better quality in its settings.",
    "unclear": "Your face cannot be seen clearly: face the camera, and let nothing cover your face.",
    "different_person": "Your face does not match yet: look straight ahead, without a mask or sunglasses.",
    "no_frames": "The video could not be read.",
    "wrong_expression": "Not seen yet: show it clearly, and hold it.",
    "accepted": "Good. Hold it.",
    "turn_more": "A little further.",
    "turn_back": "Look straight ahead.",
    "other_side": "Turn to the other side: follow the arrow.",
    "too_sudden": "That was too sudden. Show a neutral face again, then do it slowly.",
    "mouth_only": "Only your mouth moved: use your whole face, and let nothing cover it.",
}
"""`Progress.hint` -> a hint about the current frame."""
LIVE_ADVICE = {
    "small": "Come closer to the camera.",
    "dark": "It is too dark: turn towards the light.",
    "bright": "It is too bright: turn away from the light.",
}
"""`View.advice` -> a sentence about the image of the face."""

NO_REFERENCE = "Please add a photograph first."
NO_NAME = "Please enter your name first."
DELETED = "The photograph has been deleted. Please add it again."
TOO_MANY_REFERENCES = "At most {most} photographs, please."
PROBLEMS = {
    "unreadable": "This photograph cannot be read ({cause}).",
    "no_face": "No face was found. Use a frontal photograph in good light.",
    "several_faces": "Several faces were found. Use a photograph with one person only.",
}
GOOD = "One face found. This photograph can be used."
ADVICE = {
    "small": "the face is small: come closer",
    "dark": "it is dark: turn towards the light",
    "bright": "it is too bright: turn away from the light",
    "blurred": "it is blurred: hold still",
    "turned": "the face is turned away: look straight ahead",
    "unlike": "it does not look like the person on the other photographs",
}
USABLE_BUT = "This photograph can be used, but {advice}."

PHOTOGRAPH, PROBE = "Photograph of the person", "Photograph to check"
CLIP, EXPRESSION = "Video clip to check", "Requested expression"
CHECK = "Check"
EXAMPLES = "Examples with drawn people"
CLIP_HELP = (
    "Checks a recorded clip. It is accepted if {frames} consecutive sampled frames show the person with the "
    "expression, and the clip does not show another person."
)
PAIR_HELP = "Do both photographs show the same person, and does the second one show the requested expression?"
CLIP_FIRST, PROBE_FIRST = "Please add a clip first.", "Please add a photograph to check first."
CANNOT_CHECK = "This cannot be checked"
PROBE_IS_CLIP = "This is a video clip. Check it in the tab for clips."
CHECKING = "Checking …"
SAME, NOT_SAME, NOT_KNOWN = "the same person", "another person", "unknown"
ROW_PERSON, ROW_ASKED, ROW_SEEN, ROW_DECISION = "Person", "Requested", "Seen", "Decision"

TIMELINE = "The attempt over time"
TIMELINE_CLIP = "The clip over time"
TIMELINE_SIMILARITY, TIMELINE_THRESHOLD = "similarity", "threshold"
TIMELINE_EXPRESSION, TIMELINE_COUNTED = "requested expression", "frames that counted"
SECONDS = "seconds"
OPERATOR_FRAME = "{reason} · {rate:.0f} frames/s"

NO_RESULTS = "This model has no results, so it is unknown how well it works."
MODEL_ABOUT = (
    "Model {name}, revision {revision}: one network with {parameters:.1f} million parameters for identity and "
    "expression. Attempts request: {challenges}."
)
MODEL_RECALL = "How often each expression is recognised"
MODEL_VERIFICATION = "How well it distinguishes people"
MODEL_NUMBERS = "All results, on people who were not used for training"
MODEL_HEADERS = ("", "value", "of", "95 % interval")
PAIRS_OF = "pairs, people:"
AUC = "same or different person (area under the ROC curve)"
TAR = "the same person accepted, at a false accept rate of {far:g}"
FAR = "other people accepted"
FRR = "photographs of the same person rejected"
EXPRESSIONS_RIGHT = "correct expressions"
DECISIONS_RIGHT = "correct decisions, requested: {required}"
DECISIONS_FAR = "wrongly accepted"
ATTEMPTS_FRR = "simulated attempts of the same person rejected"
ATTACK = "accepted attacks: {about}"
CURVE = "true accept rate over false accept rate"
MODEL_LIMITS = "What it cannot do"
LIMITS = (
    "A video that shows the right actions at the right times, a live deepfake, or a stream that replaces the camera "
    "passes the challenge.",
    "It was trained and evaluated on few people. Do not use it to protect anything.",
)
