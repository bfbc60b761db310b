"""What the experiments share: each script here asks one question, and everything else is below.

frame: flags, checks, the run's folder, long work that continues, the page, the end.
loading: the classifiers that a script was asked for.
datasets: the images of a prepared data set, batch by batch or one by one.
methods: the one table of attribution methods, and the controls that methods are judged beside.
photographs: pictures from files and data sets, and their maps.
examples: labelled images with boxes, measured under two models, paired by image.
recipes: initial images, optimizers and settings of class visualization.
pictures: class visualizations by variants of a recipe, judged by another model.
robustness: accuracy as it is and under attack, by two losses.
tables: means with their intervals, as tables and curves show them.
explorer: what the explorer's page asks for, and the lines of Python that make it.
waves: sounds and radio signals drawn over their maps, and what hides them best.

A script imports these and the library, never another script.
"""
