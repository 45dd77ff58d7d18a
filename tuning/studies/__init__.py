"""The textbook's claims: a study is a row of data (`rows`), its networks (`arms`), and a test fixed beforehand
(`verdicts`)."""
