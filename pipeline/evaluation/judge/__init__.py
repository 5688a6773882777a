"""A judge of sentences: a vision-language model behind an OpenAI-compatible endpoint.

In: pictures, boxes, labels and sentences. Out: marks from 1 to 5 by criterion, and comparisons of two sentences.
Start with `run.judge_answers`; `client` asks and caches, `prompts` holds the rubric and the reply's form, `endpoint` is the connection.
"""
