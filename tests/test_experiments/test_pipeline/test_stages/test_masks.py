def test_refinement_with_masks_needs_a_checkpoint(voc, monkeypatch, command):
    names = ('masks', 'labels_cam_sepl', 'labels_csrm_crf_sepl')
    assert all('SAM_CHECKPOINT is not set' in voc.stages[name].missing() for name in names)
    monkeypatch.setenv('SAM_CHECKPOINT', 'sam/vit-huge')
    assert all(voc.stages[name].missing() is None for name in names)
    assert 'tools/sam_masks.py sam/vit-huge voc/JPEGImages' in command(voc.stages['masks'], 'sam_masks')
    merged = command(voc.stages['labels_csrm_crf_sepl'], 'refine_sam')
    assert 'RUN/labels_csrm/crf/train_aug RUN/masks/train_aug' in merged
