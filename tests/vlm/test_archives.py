from dadlab.vlm.archives import wordnet_names


def test_synsets_of_one_name_are_told_apart():
    assert wordnet_names(["n03773504", "n04008634"]) == ["missile", "projectile"]
    assert wordnet_names(["n03773504", "n02119789"]) == ["missile", "kit fox"]
    assert wordnet_names(["anything"]) == ["anything"]
