"""Scoring many images without a web page: ``agiqa score``, here or through a service.

    images    which files            prompts, embedded    which prompts
    local     this machine scores    remote               a running service scores
    tables    CSV, JSONL, Parquet    resume               what OUT has already
    progress  while it runs          summary, report      what came of it
    run       puts them together

Needs no torch: ``local`` is handed a scorer.
"""
