"""What leaves the house: exports in several formats, checked before anybody hears of them, and a client of servers."""
