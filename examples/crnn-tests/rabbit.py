"""Makes rabbit.obj: a body that no noise resembles, with thin ears and a narrow neck, of overlapping ellipsoids.

python examples/crnn-tests/rabbit.py > examples/crnn-tests/rabbit.obj
"""

import numpy as np

PARTS = [  # centre, half axes, turn about y (degrees); x forward, y to the side, z up
    ((0.0, 0.0, 0.0), (1.0, 0.75, 0.8), 0),  # body
    ((0.95, 0.0, 0.85), (0.5, 0.45, 0.45), 0),  # head
    ((0.75, 0.22, 1.55), (0.16, 0.1, 0.55), -15),  # ears
    ((0.75, -0.22, 1.55), (0.16, 0.1, 0.55), -15),
    ((0.55, 0.45, -0.7), (0.45, 0.2, 0.18), 0),  # feet
    ((0.55, -0.45, -0.7), (0.45, 0.2, 0.18), 0),
    ((-1.05, 0.0, 0.1), (0.25, 0.25, 0.25), 0),  # tail
]
RINGS, SIDES = 6, 10


def unit_sphere():
    """Vertices (n, 3) and outward faces, as numbers of vertices from 0."""
    polar, azimuth = np.pi * np.arange(1, RINGS) / RINGS, 2 * np.pi * np.arange(SIDES) / SIDES
    rings = np.stack(
        [
            np.outer(np.sin(polar), np.cos(azimuth)),
            np.outer(np.sin(polar), np.sin(azimuth)),
            np.outer(np.cos(polar), np.ones(SIDES)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    bottom, faces = len(rings) + 1, []  # 0 is the top
    for j in range(SIDES):
        k = (j + 1) % SIDES
        faces.append((0, 1 + j, 1 + k))
        for i in range(RINGS - 2):
            a, b = 1 + i * SIDES, 1 + (i + 1) * SIDES
            faces.append((a + j, b + j, b + k, a + k))
        last = 1 + (RINGS - 2) * SIDES
        faces.append((last + j, bottom, last + k))
    return np.vstack([(0, 0, 1), rings, (0, 0, -1)]), faces


def main():
    print("# seven closed shells that overlap; made by rabbit.py")
    sphere, faces = unit_sphere()
    for number, (centre, axes, turn) in enumerate(PARTS):
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        points = sphere * axes @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) + centre
        for point in points:
            print("v", *(f"{x:.4f}" for x in point))
        for face in faces:
            print("f", *(number * len(sphere) + k + 1 for k in face))


if __name__ == "__main__":
    main()
