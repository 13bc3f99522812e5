"""The atoms of a rank: units, cell, arrays, the System that joins them to bricks and potential, builders."""
