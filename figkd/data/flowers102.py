"""Oxford 102 Flowers (Nilsback and Zisserman 2008): 1,020 training, 1,020 validation, 6,149 test images.

The training list is the small one (`trnid`, 10 images a class), the test list the large one (`tstid`), as
published; some papers swap them. Many train on train and validation together: option merge_val.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Archive, Listing, Sample, matlab, number, published_folder, require
from figkd.data.options import Options
from figkd.data.store import SplitName

DEFAULTS: Options = {"merge_val": False}

LAYOUT = """\
<root>/jpg/image_00001.jpg ...
<root>/imagelabels.mat, setid.mat
or all of it in <root>/flowers-102/"""

SOURCE = (
    "figkd-pipeline download flowers102 ROOT, or by hand 102flowers.tgz, imagelabels.mat and setid.mat "
    "from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
)

OFFICIAL = {"train": 1_020, "val": 1_020, "test": 6_149}

# Sizes and checksums as recorded by TensorFlow Datasets (url_checksums/oxford_flowers102.txt).
_HOST = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
ARCHIVES = (
    Archive(
        f"{_HOST}imagelabels.mat",
        502,
        "sha256:4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
        "imagelabels.mat",
    ),
    Archive(
        f"{_HOST}setid.mat",
        14_989,
        "sha256:46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
        "setid.mat",
    ),
    Archive(
        f"{_HOST}102flowers.tgz",
        344_862_509,
        "sha256:2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
        "jpg",
    ),
)

# The lists have numbers only. These are the names of the publisher's categories page by label, spelt and ordered as
# everybody uses them (torchvision and others); the question mark is part of a published name.
CLASSES = tuple(
    """\
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon
orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle,
yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire
lily, pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers,
stemless gentian, artichoke, sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine
sea holly, ruby-lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy,
daffodil, sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common
dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange
dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone, black-eyed susan, silverbush, californian
poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose,
thorn apple, morning glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus,
columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball
moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper,
blackberry lily""".replace("\n", " ").split(", ")
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists: image numbers and labels, both counted from 1."""
    folder = published_folder(root, "flowers-102", "setid.mat")
    require(folder, ["jpg/", "imagelabels.mat", "setid.mat"], SOURCE, LAYOUT)
    lists = [folder / "imagelabels.mat", folder / "setid.mat"]
    (labels,) = matlab(lists[0], "labels")

    def sample(image: Any) -> Sample:
        index = number(image, lists[1], "an image number", 1, len(labels))
        file = f"jpg/image_{index:05d}.jpg"
        label = number(labels[index - 1], lists[0], f"the label of {file}", 1, len(CLASSES)) - 1
        return Sample(folder / file, label, file)

    names: tuple[SplitName, ...] = ("train", "val", "test")
    ids = matlab(lists[1], "trnid", "valid", "tstid")
    splits = {name: [sample(image) for image in found] for name, found in zip(names, ids, strict=True)}
    if options["merge_val"]:
        splits["train"] += splits.pop("val")
    return Listing(CLASSES, splits, lists)
