"""Pictures in a page: points that tell what they are, nothing that is fetched, and no names that clash."""

import re

from matplotlib.figure import Figure

from trainers.reports import html


def drawn(texts):
    figure = Figure()
    axes = figure.subplots()
    (line,) = axes.plot([1, 2, 3], [1, 4, 2], "o-")
    html.tips(line, texts)
    html.tips(axes.scatter([1, 2], [2, 1], [10, 40]), ["small", "large"])
    return html.picture(figure, 'two <"series">')


def test_points_have_their_texts():
    found = drawn(["a <b>", 'c "d"', "é"])
    texts = re.findall("<(?:use|path)[^>]*><title>(.*?)</title></(?:use|path)>", found)
    assert texts == ["small", "large", "a &lt;b&gt;", 'c "d"', "é"]  # as they are drawn, from the back
    assert 'aria-label="two &lt;&quot;series&quot;&gt;"' in found


def test_a_page_fetches_nothing_and_its_groups_have_no_names():
    page = html.page("title", drawn(["a", "b", "c"]), drawn(["d", "e", "f"]))
    assert page.count("<svg ") == 2 and "http" not in page and "xlink" not in page
    assert not re.search("<g [^>]*id=", page)
    assert set(re.findall('href="#([^"]+)"', page)) <= set(re.findall(' id="([^"]+)"', page))
