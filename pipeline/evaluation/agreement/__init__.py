"""How far a run agrees with people who coded the same videos.

In: the trends of a run and files of human codes. Out: kappa, F1, ICC and agreement on events, for each action unit and emotion. Start with
`compare.compare`. In the order of the data:

    options        the choices of a comparison
    codes          what a person coded: labels, times, intensities, and where nothing was coded
    reading        opens a file of codes, whatever its kind: elan, datavyu, code_tables (CSV)
    pairing        codes beside the run's own series: which track they are about, frame by frame
    event_matching human events beside the run's events
    coefficients   kappa, ICC and the others, as functions of sums, with their sources
    compare        all figures with their intervals
    picture        both codings as timelines, and the figures, as a picture
"""
