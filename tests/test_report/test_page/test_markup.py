from csrm_plugin.report.page.markup import Html, Ids, details, join, scrolling, table, tag

HOSTILE = '<script>alert("1")</script> & \'x\''


def test_text_and_attributes_are_escaped_unless_they_are_html():
    text = tag('p', HOSTILE, Html('<b>bold</b>'), 3, None, title=HOSTILE)
    assert '<script>' not in text and '<b>bold</b>3</p>' in text
    assert '&lt;script&gt;alert("1")&lt;/script&gt; &amp;' in text
    assert 'title="&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#x27;x&#x27;"' in text


def test_what_is_put_together_from_html_and_text_is_escaped_again():
    """Only the functions of the module make HTML: a lost mark costs looks, never safety."""
    assert tag('p', 'a' + tag('b', '<')) == '<p>a&lt;b&gt;&amp;lt;&lt;/b&gt;</p>'
    assert join('<', tag('b', '<')) == '&lt;<b>&lt;</b>'


def test_attributes():
    assert tag('input', cls='a', for_='b', aria_label='c', data_step=0, hidden=True, open=False, id=None) == (
        '<input class="a" for="b" aria-label="c" data-step="0" hidden>'
    )


def test_table_has_scopes_a_caption_and_a_box_that_scrolls():
    text = table(['a', 'b'], ['group', ['<1>', 2]], 'what', numeric=[1])
    assert text.startswith('<div class="scroll" tabindex="0" role="region" aria-label="what"><table>')
    assert '<th scope="col">a</th><th scope="col" class="num">b</th>' in text
    assert '<th scope="rowgroup" colspan="2">group</th>' in text
    assert '<th scope="row">&lt;1&gt;</th><td class="num">2</td>' in text
    assert 'scroll fit' in table(['a'], [], 'c', cls='compact')


def test_ids_differ_and_begin_again_with_each_page():
    ids, again = Ids(), Ids()
    assert ids('a') != ids('a')
    assert [again('a'), again('a')] == ['a-1', 'a-2']


def test_folded_and_scrolling_parts():
    assert details('<', 'x') == '<details><summary>&lt;</summary>x</details>'
    assert 'tabindex="0"' in scrolling('x', 'y')
