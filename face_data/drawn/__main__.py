"""Draw an overview of drawn people, with one person per row and one expression per column.

python -m face_data.drawn faces.png
"""

import sys

from PIL import Image

from face_data.drawn import EXPRESSION_MUSCLES, drawn_photograph

ROWS, SIDE = 8, 160

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    overview = Image.new("RGB", (len(EXPRESSION_MUSCLES) * SIDE, ROWS * SIDE))
    for row in range(ROWS):
        for column, name in enumerate(EXPRESSION_MUSCLES):
            image = drawn_photograph(row, name, 0, seed=0).resize((SIDE, SIDE))
            overview.paste(image, (column * SIDE, row * SIDE))
    overview.save(sys.argv[1])
