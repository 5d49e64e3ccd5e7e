"""Who made the stamps: read from the change log of Tux Paint Stamps, the only credits that the package carries.

The collection as a whole is GPL 2 or later, copyright its contributors (Debian's ``copyright`` file names Bill
Kendrick, 2002 to 2022). Where the log does not name the author of a stamp, the credit says so.
"""

PACKAGE = "Debian tuxpaint-stamps-default 2022.06.04-1"
LICENCE = "GPL-2.0-or-later"

AUTHORS = {
    "Stas Zytkiewicz (Childsplay), adapted by Pere Pujal i Carabantes": (
        "bear beaver bison blackbird bull camel caribou chimp cow crow cuckoo deer doe dog dromedary duck gander goat "
        "gorilla horse kangaroo lark lion marmot mountaingoat mouse nandou owl penguin pigeon quetzal rabbit ram rat "
        "seagull squirrel tiger tucan turkey vulture wapiti wombat yak zebu"
    ),
    "Pere Pujal i Carabantes": "dumper european-bear gnu-baby gnu-baby-stand gnu-sitting gnu-stand rabbit-2",
    "Bill Kendrick (San Francisco Zoo)": (
        "capybara crowned_crane indian_blackbuck magellanic_penguin ostrich peacock pink_flamingo tamarin_emperor "
        "tiger_sumatran"
    ),
    "Stas Zytkiewicz (Childsplay) or Bill Kendrick": "zebra",
    "Caroline Ford (Mudchute Park and Farm)": "chicken_profile cow_white donkey_eating sheep sheep_lamb",
    "Caroline Ford (Mudchute Park and Farm) or Stas Zytkiewicz (Childsplay)": "donkey",
    "Caroline Ford (Mudchute Park and Farm) or John O'Sullivan": "drake hen",
    "John O'Sullivan": "guineafowl",
    "John O'Sullivan or Stas Zytkiewicz (Childsplay)": "rooster",
    "Caroline Ford": "beetle garbagetruck highlighter pink_tricycle spade",
    "Chris Goerner (the Australian stamps)": (
        "adelaide-rosella dingo lemon little-penguin magpie mandarine rainbow-lorikeet silver-gull"
    ),
    "Bill Kendrick (Coco Ranch farmers' market)": (
        "apple_fuji apple_granny_smith apple_sierra_beauty banana chilepepper eggplant garlics pattypan_squash "
        "pumpkin_small redlettuce yellowpepper"
    ),
    "Bill Kendrick (with thanks to Jen and Ed Collins)": (
        "hammer mallet_metal mango measuring_tape paintbrush_large pear plyers pomegranate saw strawberry toolbox "
        "wrench wrench_adjustable wrench_plumbers"
    ),
    "Bill Kendrick": (
        "apple_green apple_red garlic onion orange pen_dryerase raspberry scissors_small_closed scissors_small_open yam"
    ),
    "Steve Karg": "broccoli corn",
    "Albert Cahalan": "747 balloon360 indycar",
    "Justin Zeigler": "sedan",
    "Jim Trice": "walnutBoat",
}
AUTHOR_OF = {name: author for author, names in AUTHORS.items() for name in names.split()}


def stamp_credit(name: str, path: str) -> list[str]:
    """Return [author, source, licence] of the stamp ``name`` that lies at ``path`` in the package."""
    author = AUTHOR_OF.get(name, "a contributor to Tux Paint Stamps whom the change log does not name")
    return [author, f"{PACKAGE}: {path}", LICENCE]
