"""People instead of tracks: which tracks show the same person, within a video and across videos and runs.

In: run folders, and the videos that they were made from. Out: a people folder (`pipeline.storage.people_folder`). Open `linking.py`
first; a track's path is `crops.py` (its few best faces) -> `recognisers.py` (an embedding of each) -> `embedding.py` (one a track, kept
for the next time) -> `clustering.py` (people) -> `sheet.py` (a page to look at). `editing.py` and `erasing.py` change people by hand,
`measuring.py` measures a recogniser on labelled pictures.
"""
