def test_the_archive_is_made_of_the_test_split(voc, command):
    stage = voc.stages['export']
    assert 'there is no list voc/ImageSets/Segmentation/test.txt' in stage.missing()
    assert '--split test' in command(stage, 'pseudo_labels') and '--crf' in command(stage, 'pseudo_labels')
    assert '--pictures voc/JPEGImages' in command(stage, 'export_voc')
