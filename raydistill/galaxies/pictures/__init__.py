"""Find the pictures of a survey, decode them and prepare them for networks.

sources, fits           the kinds of `survey.images`
files, paths, archives  where a picture is: by a pattern, by a column of paths, in a zip
images                  bytes -> checked, cropped, resized pixels
formats, cells          pictures of more than 8 bits, unusual TIFF, arrays in Parquet
levels                  the display range of pixel values
alignment               turn a galaxy until its major axis is horizontal
perceptual_hash         recognise altered copies
"""
