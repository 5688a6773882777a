"""Reports of a run: pages that open in a browser, per-frame tables in the layouts of other tools, annotated films.

In: a run folder, and the videos that it was made from. Out: a folder with `index.html`, `videos/`, `frames/` and `films/`. Open `build.py`
first; it writes the outputs of each video.

    build        a whole report: what to write, what is up to date, what failed
    page, index  HTML files, rendered from `templates/` with the scripts and styles of `assets/`
    page_data, pictures    the data and the pictures of a video's page
    export, layouts        per-frame tables
    film, overlay, positions, sound    annotated films
    inputs, windows, frame_scores      what is read from the run
"""
