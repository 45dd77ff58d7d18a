"""`--precision auto` and `--jit auto`: the faster choice by a short trial, by a kept one, or by a table."""
