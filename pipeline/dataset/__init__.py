"""The region-level dataset that a model is trained on.

In: labelled faces (Parquet, or pictures with a CSV), and labels in a file of their own. Out: a folder of Parquet, one row a face, with many
boxes of it, and each box's action units, emotion, age and sentence. Start with `build.build`. In the order of the data:

    label_file     Parquet and CSV tables of labels; labels joined by image_id
    labels         what the label columns of a row say
    source         a file of labelled faces, face by face (pictures decodes them and finds missing landmarks)
    boxes          the boxes of a face
    examples       one face -> one row, with a sentence for each box
    build          all faces -> the folder (preconditions checks first; schema has the columns)
    card           the folder's README and contact sheet
"""
