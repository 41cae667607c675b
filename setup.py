"""The package, described once in settings.ini."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
cfg = ConfigParser(delimiters=["="])
cfg.read(here / "settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]
extras = {k.removesuffix("_requirements"): v.split() for k, v in cfg.items() if k.endswith("_requirements")}
extras["all"] = sorted({r for k, v in extras.items() if k != "dev" for r in v})

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Developers", "Programming Language :: Python :: 3"],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["lipsync", "lipsync.*"]),
    include_package_data=True,
    package_data={"lipsync": ["weights/*", "weights/*/*", "assets/*"]},
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": ["lipsync=lipsync.cli:main"], "nbdev": ["lipsync=lipsync._modidx:d"]},
    zip_safe=False,
)
