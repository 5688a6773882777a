"""The FaceFocalDesc benchmark: how good a describer is, where it fails, and how it compares with simple baselines.

In: labelled faces (Parquet) and a describer, or a file of answers. Out: figures with intervals, a report, plots, every prediction.
Start with `scoring.evaluate`. In the order of the data:

    face_files       opens files of labelled faces (preconditions checks all options first)
    questions        labelled faces -> the boxes to ask about, with their labels
    predictions      a describer's answers to these questions, or answers read from a file (columns: schemas)
    baselines        answers to compare with: majority class, whole face, random box
    answer_table     one describer's answers as arrays, indexed by face
    bootstrap        figures as functions of face weights, and their intervals
    recognition      figures of action units, emotion and age
    region_metrics   figures of what regions are for: locality, consistency, discrimination ...
    sentence_reader  reads what a sentence claims, apart from the code that writes sentences
    conversation     figures of questions asked in turn
    text_metrics     BLEU, ROUGE-L, METEOR, CIDEr-D, embedding similarity, BERTScore (models read by text_encoder)
    groups           figures by group of people
    scoring          all figures of the describer and the baselines
    agreement/       how far a run agrees with people who coded the same videos
    judge/           an external vision-language model that marks sentences
    markdown_report, plots   what a person reads
"""
