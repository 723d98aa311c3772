"""What pyproject.toml cannot say: scenarios/ and networks/ are parts of the package in a wheel."""

from setuptools import find_packages, setup

SHIPPED = {f"neurosim.examples.{folder}": folder for folder in ("scenarios", "networks")}

setup(packages=[*find_packages(include=["neurosim*"]), *SHIPPED], package_dir=SHIPPED)
